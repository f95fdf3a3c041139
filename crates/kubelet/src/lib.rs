//! Runs the pods of one node through the CRI.
//!
//! A pod start is a chain of events: the API server's watch tells of a pod, its state machine
//! (`pod::machine`) answers with actions, the pod's worker (`pod::worker`) carries them out against the
//! container runtime, and what comes back (results, container events, probe results, timers) is fed to the
//! machine again. Nothing ticks. The kubelet speaks CRI only and never learns how a container is made.

mod affinity;
mod cgroups;
mod checkpoint;
mod claims;
mod config;
mod container;
mod context;
mod cpus;
mod cri;
mod csi;
mod devices;
#[cfg(test)]
mod documented;
mod events;
mod eviction;
mod fullness;
mod hooks;
mod identity;
mod image_gc;
mod images;
mod log_rotation;
mod memory;
mod meters;
mod node;
mod numa;
mod objects;
mod plugin;
mod pod;
mod pod_resources;
mod probe;
mod server;
mod shutdown;
mod static_pods;
mod token_request;
mod turns;
mod unix;
mod users;
mod volumes;
mod watch_dir;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use config::{ConfigError, KubeletConfiguration, duration, flags};
use futures::future::BoxFuture;
pub use identity::{IdentityError, bootstrap};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
pub use unix::path_of as socket_path;

use crate::context::Context;
use crate::cri::Cri;
use crate::pod::manager::{Manager, Sources};

/// What a kubelet needs to know about itself and its node.
#[derive(Clone)]
pub struct Options {
    pub node_name: String,
    /// At most one of each family, first the one that it is known by.
    pub node_ips: Vec<IpAddr>,
    /// The identity (`system:node:<name>`) is the client's.
    pub client: kube::Client,
    /// The runtime's CRI socket; the image service is on the same one.
    pub cri_socket: PathBuf,
    /// Pod directories, volumes and, unless the configuration says otherwise, logs live under it.
    pub root_dir: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    pub config: KubeletConfiguration,
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
    /// The cluster's authority has signed `tls_cert`, so API servers can verify it.
    pub tls_signed: bool,
    /// Client certificates of this authority are accepted by the kubelet's API; of none when empty.
    pub client_ca: PathBuf,
    /// Where certificates are that the kubelet asks for itself.
    pub cert_dir: PathBuf,
    /// The client's certificate is among those.
    pub bootstrapped: bool,
    /// Where the kubelet's API listens; upstream's port is 10250.
    pub listen: SocketAddr,
    /// By a token: the cluster signs its serving certificate without being told to, so it is asked to.
    pub joined: bool,
}

/// Why the kubelet did not start or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the kubelet's directory {path}: {source}")]
    RootDir { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Serve(#[from] server::ServeError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Manager(#[from] context::ManagerError),
}

impl Options {
    /// What the configuration file says counts more than what the kubelet was started with.
    fn configured(mut self) -> Self {
        let config = &self.config;
        let replace = |path: &mut PathBuf, by: &PathBuf| {
            if !by.as_os_str().is_empty() {
                path.clone_from(by);
            }
        };
        self.tls_signed &= config.tls_cert_file.as_os_str().is_empty();
        replace(&mut self.tls_cert, &config.tls_cert_file);
        replace(&mut self.tls_key, &config.tls_private_key_file);
        replace(&mut self.client_ca, &config.authentication.x509.client_ca_file);
        let endpoint = &config.container_runtime_endpoint;
        replace(&mut self.cri_socket, &endpoint.strip_prefix("unix://").unwrap_or(endpoint).into());
        if !config.cluster_dns.is_empty() {
            self.cluster_dns.clone_from(&config.cluster_dns);
        }
        if !config.cluster_domain.is_empty() {
            self.cluster_domain.clone_from(&config.cluster_domain);
        }
        let ip = config.address.unwrap_or(self.listen.ip());
        self.listen = SocketAddr::new(ip, config.port.unwrap_or(self.listen.port()));
        self
    }
}

/// Runs until `shutdown`; containers go on running.
pub fn run(options: Options, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(options, shutdown))
}

async fn run_until(options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let mut options = options.configured();
    options.client = client::metered(options.client, &meters::REQUESTS);
    options.config.server_tls_bootstrap |= options.joined && options.tls_cert.as_os_str().is_empty();
    if options.tls_cert.as_os_str().is_empty() && !options.config.server_tls_bootstrap {
        (options.tls_cert, options.tls_key) =
            identity::self_signed(&options.cert_dir, &options.node_name, &options.node_ips)?;
    }
    // Our own failure ends our own tasks only.
    let shutdown = shutdown.child_token();
    let pods_dir = options.root_dir.join("pods");
    std::fs::create_dir_all(&pods_dir).map_err(|source| Error::RootDir { path: pods_dir.clone(), source })?;
    let cri = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        cri = connect(&options) => cri,
    };
    info!(runtime = %cri.name, version = %cri.version, "connected to the container runtime");
    let systemd = cri.has_systemd_cgroups().await;
    let ctx = Arc::new(Context::new(options, cri.clone(), systemd)?);
    let ready = Arc::new(Notify::new());
    let (news_sender, news) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(cri::events::follow(cri, news_sender, shutdown.clone()));
    tasks.spawn(node::keep_status(ctx.clone(), ready.clone(), shutdown.clone()));
    tasks.spawn(node::follow_pod_cidr(ctx.clone(), ready, shutdown.clone()));
    let config = &ctx.options.config;
    let cert_dir = &ctx.options.cert_dir;
    if config.rotate_certificates && ctx.options.bootstrapped {
        tasks.spawn(identity::keep_client(ctx.clone(), cert_dir.clone(), shutdown.clone()));
    }
    if config.server_tls_bootstrap {
        tasks.spawn(identity::keep_serving(ctx.clone(), cert_dir.clone(), shutdown.clone()));
    }
    tasks.spawn(csi::keep_node_object(ctx.clone(), shutdown.clone()));
    tasks.spawn(devices::serve(ctx.clone(), shutdown.clone()));
    let recovering = ctx.clone();
    tasks.spawn(async move { recovering.images.recover().await });
    tasks.spawn(cpus::keep(ctx.clone(), shutdown.clone()));
    tasks.spawn(pod_resources::serve(ctx.clone(), shutdown.clone()));
    tasks.spawn(plugin::follow(ctx.clone(), shutdown.clone()));
    tasks.spawn(node::keep_lease(ctx.clone(), shutdown.clone()));
    let (kill_sender, kills) = mpsc::unbounded_channel();
    tasks.spawn(shutdown::keep(ctx.clone(), kill_sender.clone(), shutdown.clone()));
    tasks.spawn(eviction::keep(ctx.clone(), kill_sender, shutdown.clone()));
    let (static_sender, statics) = mpsc::unbounded_channel();
    tasks.spawn(static_pods::follow(ctx.clone(), static_sender, shutdown.clone()));
    let sources = Sources { news, statics, kills };
    tasks.spawn(Manager::new(ctx.clone()).run(sources, shutdown.clone()));
    tasks.spawn(log_rotation::keep(ctx.clone(), shutdown.clone()));
    tasks.spawn(server::healthz(ctx.clone(), shutdown.clone()));
    let served = if ctx.options.config.enable_server {
        let server = server::Server::new(ctx);
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            served = server::serve(server, shutdown.clone()) => served,
        }
    } else {
        shutdown.cancelled().await;
        Ok(())
    };
    // Without its API a kubelet is of no use: all of it stops, and the pods stay.
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(served?)
}

/// The runtime may be starting just now: waits for it.
async fn connect(options: &Options) -> Cri {
    let mut wait = Duration::from_millis(10);
    loop {
        match Cri::connect(&options.cri_socket).await {
            Ok(cri) => return cri,
            Err(error) if wait < Duration::from_secs(1) => {
                tracing::debug!(socket = %options.cri_socket.display(), %error, "no answer from the container runtime");
            }
            Err(error) => {
                warn!(socket = %options.cri_socket.display(), %error, "no answer from the container runtime, trying again");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}
