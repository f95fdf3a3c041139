//! A container runtime behind the CRI.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

pub mod oci;

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
    /// The `corten-shim` binary.
    pub shim: PathBuf,
    /// Name of the bridge the pods of this node are attached to.
    pub bridge: String,
    /// RuntimeClass handlers besides the built-in one: handler name to OCI runtime binary.
    pub handlers: Vec<(String, PathBuf)>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
}

/// Serves the CRI until `shutdown`. Containers keep running after it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let _ = config;
    shutdown.cancelled().await;
    Ok(())
}
