//! Which authorizers are asked, as the command line says.

use std::path::PathBuf;
use std::time::Duration;

/// One authorizer of `--authorization-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Node,
    Rbac,
    Webhook,
    AlwaysAllow,
    AlwaysDeny,
}

impl Mode {
    /// As `--authorization-mode` and AuthorizationConfiguration call it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "Node" => Some(Self::Node),
            "RBAC" => Some(Self::Rbac),
            "Webhook" => Some(Self::Webhook),
            "AlwaysAllow" => Some(Self::AlwaysAllow),
            "AlwaysDeny" => Some(Self::AlwaysDeny),
            _ => None,
        }
    }
}

/// What the server's authorizers are.
#[derive(Clone, Debug)]
pub struct AuthorizationOptions {
    /// Asked in this order. Of no meaning when there is a `config`.
    pub modes: Vec<Mode>,
    /// The webhook of the mode of that name.
    pub webhook: Option<WebhookOptions>,
    /// An AuthorizationConfiguration, followed while the server runs.
    pub config: Option<PathBuf>,
}

/// The webhook of `--authorization-webhook-*`.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    pub kubeconfig: PathBuf,
    /// `v1` or `v1beta1` of `authorization.k8s.io`.
    pub version: String,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
}

impl Default for AuthorizationOptions {
    fn default() -> Self {
        Self { modes: vec![Mode::Node, Mode::Rbac], webhook: None, config: None }
    }
}
