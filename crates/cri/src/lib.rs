//! The Container Runtime Interface of Kubernetes 1.36: messages, client and server, made from `proto/cri.proto`.
//!
//! Kubelet and runtime meet here and nowhere else. A field that one side does not know yet is ignored by it.

mod hidden;
mod weight;

use std::fmt;

pub use hidden::{masked_paths, readonly_paths};
pub use weight::cpu_weight;

pub mod v1 {
    #![allow(clippy::large_enum_variant, clippy::doc_markdown, reason = "generated")]
    tonic::include_proto!("runtime.v1");
}

/// Credentials are not for logs.
impl fmt::Debug for v1::AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::v1::AuthConfig;

    #[test]
    fn secrets_are_not_shown() {
        let secret = || "hunter2".to_owned();
        let auth = AuthConfig {
            username: "me".into(),
            password: secret(),
            auth: secret(),
            identity_token: secret(),
            registry_token: secret(),
            ..AuthConfig::default()
        };
        let shown = format!("{auth:?}");
        assert!(shown.contains("me") && !shown.contains("hunter2"), "{shown}");
    }
}
