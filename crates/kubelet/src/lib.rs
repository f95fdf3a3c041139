//! Runs the pods of one node through the CRI.
//!
//! A pod start is a chain of events: the API server's watch tells of a pod, its state machine
//! ([`pod::machine`]) answers with actions, the pod's worker ([`pod::worker`]) carries them out against the
//! container runtime, and what comes back (results, container events, probe results, timers) is fed to the
//! machine again. Nothing ticks. The kubelet speaks CRI only and never learns how a container is made.

mod config;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use config::{ConfigError, KubeletConfiguration};
use tokio_util::sync::CancellationToken;

/// What a kubelet needs to know about itself and its node.
#[derive(Clone)]
pub struct Options {
    pub node_name: String,
    pub node_ip: IpAddr,
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
    /// Client certificates of this authority are accepted by the kubelet's API.
    pub client_ca: PathBuf,
    /// Where the kubelet's API listens; upstream's port is 10250.
    pub listen: SocketAddr,
}

/// Why the kubelet stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to the container runtime at {socket}: {source}")]
    Runtime {
        socket: PathBuf,
        source: tonic::Status,
    },
}

/// Runs until `shutdown`; containers go on running.
pub async fn run(_options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    shutdown.cancelled().await;
    Ok(())
}
