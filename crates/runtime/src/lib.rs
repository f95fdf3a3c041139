//! A container runtime behind the CRI.
//!
//! The kubelet (ours, upstream's, or `crictl`) speaks the Container Runtime Interface to a unix socket. A pod sandbox is a
//! `corten-shim` process with the pod's namespaces; a container is a process tree that the shim starts by a plan made here, or
//! through any OCI runtime that a RuntimeClass names. This process holds nothing that matters: it may be killed at any moment, and finds sandboxes
//! and containers again in its records and by asking the shims.
//!
//! - [`server`]: the gRPC services, thin; [`streaming_server`]: exec, attach and port-forward
//! - [`sandbox`], [`container`]: what the calls do; [`recover`]: after a restart;
//!   [`clear()`]: the end of it all
//! - [`spec`]: from the CRI's configuration to the OCI's and to the shim's plan; [`handler`]: which OCI runtime
//! - [`network`], [`cni`]: what connects pods
//! - [`shim_client`]: the conversation with the shims; [`events`], [`stats`], [`cgroup`]

mod admission;
mod apparmor;
mod cgroup;
mod clear;
mod cni;
mod container;
mod disk;
mod error;
mod events;
mod handler;
mod mount_points;
mod network;
mod recover;
mod sandbox;
mod server;
mod shim_client;
mod spec;
mod state;
mod stats;
mod streaming_server;
mod systemd;
mod table;
mod trash;

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use admission::{Admission, PodNetwork};
pub use clear::clear;
pub use error::{Error, Result};

/// Where one runtime keeps its things. Nothing outside these paths is touched, so several runtimes live on one machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// What survives a reboot: images, container records, writable layers.
    pub root_dir: PathBuf,
    /// What does not: sockets, bundles, mounts, process state. On a tmpfs, usually.
    pub run_dir: PathBuf,
    /// The CRI socket.
    pub socket: PathBuf,
    /// The cgroup under which containers go whose sandbox names none.
    pub cgroup_parent: String,
    /// The socket of the bus at which systemd makes control groups; none if they are made here.
    pub systemd_bus: Option<PathBuf>,
    /// The `corten-shim` binary.
    pub shim: PathBuf,
    /// Name of the bridge the pods of this node are attached to.
    pub bridge: String,
    /// The pod networks of the whole cluster: what goes there keeps the pod's address.
    pub cluster_cidrs: Vec<net::IpNet>,
    /// The pod network of this node, as long as no kubelet tells another.
    pub pod_cidr: Option<String>,
    /// CNI configurations and plugins, in place of our bridge.
    pub cni: Option<CniConfig>,
    /// RuntimeClass handlers besides the built-in one: handler name to OCI runtime binary.
    pub handlers: Vec<(String, PathBuf)>,
    /// Who must know of a pod before its processes run.
    pub admission: Option<Admission>,
}

/// Where the CNI is found.
#[derive(Debug, Clone)]
pub struct CniConfig {
    pub conf_dir: PathBuf,
    pub bin_dirs: Vec<PathBuf>,
    /// As long as there is no configuration, pods are attached to our bridge: somebody may bring one later.
    pub bridge_before: bool,
}

/// Serves the CRI until `shutdown`. Containers keep running after it.
pub fn run(config: Config, shutdown: CancellationToken) -> BoxFuture<'static, Result<()>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(config, shutdown))
}

async fn run_until(config: Config, shutdown: CancellationToken) -> Result<()> {
    let runtime = state::blocking(move || {
        let runtime = Arc::new(state::Runtime::open(config)?);
        runtime.isolate_mounts()?;
        runtime.restore_pod_cidr();
        Ok(runtime)
    })
    .await?;
    tokio::spawn(runtime.trash.clone().empty());
    if let Some(systemd) = &runtime.systemd {
        systemd.check().await?;
    }
    runtime.recover().await?;
    let streaming = runtime.bind_streaming().await?;
    tokio::spawn(runtime.clone().serve_streaming(streaming, shutdown.clone()));
    server::serve(runtime, shutdown).await
}
