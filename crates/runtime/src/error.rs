//! What can go wrong, and what the CRI client is told.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{kind} {id:?} not found")]
    NotFound { kind: &'static str, id: String },
    #[error("{0}")]
    AlreadyExists(String),
    #[error("{0}")]
    InvalidArgument(String),
    /// The object is not in the state that the request needs.
    #[error("{0}")]
    FailedPrecondition(String),
    #[error("{0}")]
    DeadlineExceeded(String),
    #[error("{0}")]
    Unimplemented(&'static str),
    #[error("sandbox {sandbox}: {message}")]
    Shim { sandbox: String, message: String },
    #[error("failed to start container {container}: {message}")]
    Oci { container: String, message: String },
    #[error("failed to exec in container {container}: {message}")]
    Exec { container: String, message: String },
    #[error("systemd cannot be asked to {what}: {source}")]
    Systemd { what: String, source: dbus::Error },
    #[error("pod network: {0}")]
    Cni(String),
    #[error(transparent)]
    Network(#[from] net::Error),
    #[error(transparent)]
    Image(#[from] images::Error),
    #[error("serve the CRI: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl Error {
    /// For `map_err`: what was done to which file.
    pub fn io(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// As [`Error::io`], for the calls of `rustix`.
    pub fn errno(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.as_ref().to_owned();
        move |errno| Self::Io { operation, path, source: errno.into() }
    }

    pub fn not_found(kind: &'static str, id: &str) -> Self {
        Self::NotFound { kind, id: id.to_owned() }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NotFound { .. } => Self::not_found(message),
            Error::AlreadyExists(_) => Self::already_exists(message),
            Error::InvalidArgument(_) => Self::invalid_argument(message),
            Error::FailedPrecondition(_) => Self::failed_precondition(message),
            Error::DeadlineExceeded(_) => Self::deadline_exceeded(message),
            Error::Unimplemented(_) => Self::unimplemented(message),
            Error::Image(source) => image_status(&source, message),
            _ => Self::unknown(message),
        }
    }
}

fn image_status(error: &images::Error, message: String) -> tonic::Status {
    match error {
        images::Error::NotFound(_) => tonic::Status::not_found(message),
        images::Error::NoPlatform { .. } => tonic::Status::not_found(message),
        images::Error::Policy { .. } => tonic::Status::permission_denied(message),
        _ if error.is_missing() => tonic::Status::not_found(message),
        _ if error.is_invalid() => tonic::Status::invalid_argument(message),
        _ => tonic::Status::unknown(message),
    }
}
