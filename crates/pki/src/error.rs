use std::io;
use std::path::PathBuf;

/// A certificate, key or kubeconfig could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {operation} {path}: {source}")]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is not a usable {what}: {reason}; move it away to have a new one made")]
    Unusable { what: &'static str, path: PathBuf, reason: String },
    #[error("cannot issue a certificate for {subject:?}: {source}")]
    Issue { subject: String, source: rcgen::Error },
}
