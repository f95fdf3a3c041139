//! What can go wrong while a controller works on a key.

/// The work on a key has failed and is to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error("cannot {operation} {object}: {}", brief(source))]
    Api { operation: &'static str, object: String, source: Box<kube::Error> },
    /// Not a failure: something else has to happen first.
    #[error("waiting for {0}")]
    Waiting(String),
}

impl SyncError {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            SyncError::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409 && status.reason == "Conflict")
    }

    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|status| status.reason == "AlreadyExists")
    }

    /// The namespace is going away, so that nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.status().and_then(|status| status.details.as_ref());
        causes
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
    }

    /// Nothing a human needs to know: a race that the next try settles.
    pub fn is_expected(&self) -> bool {
        matches!(self, SyncError::Waiting(_))
            || self.is_conflict()
            || self.is_not_found()
            || self.is_namespace_terminating()
    }

    /// The words of the API server, for events and conditions.
    pub fn api_message(&self) -> String {
        match self.status() {
            Some(status) => status.message.clone(),
            None => self.to_string(),
        }
    }
}

/// The API server's words alone: the whole Status would say them twice.
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}

/// Names the operation and the object of a failed request.
pub trait Context<T> {
    fn context(self, operation: &'static str, object: impl FnOnce() -> String) -> Result<T, SyncError>;
}

impl<T> Context<T> for Result<T, kube::Error> {
    fn context(self, operation: &'static str, object: impl FnOnce() -> String) -> Result<T, SyncError> {
        self.map_err(|source| SyncError::Api { operation, object: object(), source: Box::new(source) })
    }
}
