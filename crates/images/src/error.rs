use std::io;
use std::path::PathBuf;

/// An operation on images failed. Nothing of a failed operation stays in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid image reference {reference:?}: {reason}")]
    Reference { reference: String, reason: image_reference::Invalid },
    #[error("{0:?} has a digest: a further name of an image has a tag at most")]
    Untaggable(String),
    #[error("more than one image has an id that begins with {0:?}")]
    Ambiguous(String),
    #[error("image {0:?} not found")]
    NotFound(String),
    #[error("cannot {operation} {path}: {source}")]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("image index {path} is damaged: {source}")]
    Index { path: PathBuf, source: serde_json::Error },
    #[error("{what} does not have the digest it claims: expected {expected}, got {actual}")]
    DigestMismatch { what: String, expected: String, actual: String },
    #[error("failed to unpack layer {layer}: {reason}")]
    Unpack { layer: String, reason: String },
    #[error("{archive} is not an image archive that can be read: {reason}")]
    Archive { archive: String, reason: String },
    #[error("image {reference} is broken: {reason}")]
    Broken { reference: String, reason: String },
    #[error("{path}: {reason}")]
    Hosts { path: PathBuf, reason: String },
    #[error("image {reference} has no variant for {platform}")]
    NoPlatform { reference: String, platform: String },
    #[error("{}failed to {operation} image {reference:?}: {}", unavailable(source), in_known_words(source))]
    Registry {
        operation: &'static str,
        reference: String,
        source: Box<oci_client::errors::OciDistributionError>,
    },
    #[error("failed to {operation} image {reference:?}: {source}")]
    Transfer { operation: &'static str, reference: String, source: io::Error },
    #[error("no token for registry {registry}: {reason}")]
    Credentials { registry: String, reason: String },
    /// A kubelet knows it by its first word.
    #[error("SignatureValidationFailed: image {reference} may not be used: {reason}")]
    Policy { reference: String, reason: String },
}

/// A kubelet knows by this word that the registry, not the image, is at fault.
fn unavailable(error: &oci_client::errors::OciDistributionError) -> &'static str {
    if crate::retry::is_unavailable(error) { "RegistryUnavailable: " } else { "" }
}

/// What the registry answered, in the words that people look for.
fn in_known_words(error: &oci_client::errors::OciDistributionError) -> String {
    match error {
        oci_client::errors::OciDistributionError::UnauthorizedError { url } => {
            format!("failed to authorize: {url}: 401 Unauthorized")
        }
        other => other.to_string(),
    }
}

impl Error {
    /// Whether the fault is in what was asked for.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Error::Reference { .. } | Error::Untaggable(_) | Error::Ambiguous(_))
    }

    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Error::File { operation, path, source }
    }

    /// Whether the registry has no such image.
    pub fn is_missing(&self) -> bool {
        use oci_client::errors::OciDistributionError as E;
        use oci_client::errors::OciErrorCode as Code;
        let Error::Registry { source, .. } = self else { return matches!(self, Error::NotFound(_)) };
        match &**source {
            E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => true,
            E::RegistryError { envelope, .. } => envelope
                .errors
                .iter()
                .any(|e| matches!(e.code, Code::ManifestUnknown | Code::NameUnknown | Code::NotFound)),
            _ => false,
        }
    }
}
