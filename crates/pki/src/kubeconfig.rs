//! Kubeconfig files: where the API server is, how to trust it, and who one is.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::leaf::CertAndKey;
use crate::{Error, write_private};

/// What a kubeconfig with one cluster, one user and one context says.
pub struct Kubeconfig<'a> {
    pub cluster: &'a str,
    pub server: &'a str,
    pub authority: &'a str,
    pub user: &'a str,
    pub credentials: &'a CertAndKey,
}

impl Kubeconfig<'_> {
    /// The file's text. JSON is YAML, and every client reads it.
    pub fn render(&self) -> String {
        let context = format!("{}@{}", self.user, self.cluster);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.cluster, "cluster": {
                "server": self.server,
                "certificate-authority-data": STANDARD.encode(self.authority),
            }}],
            "users": [{"name": self.user, "user": {
                "client-certificate-data": STANDARD.encode(&self.credentials.certificate),
                "client-key-data": STANDARD.encode(&self.credentials.key),
            }}],
            "contexts": [{"name": context, "context": {"cluster": self.cluster, "user": self.user}}],
            "current-context": context,
        });
        format!("{config:#}\n")
    }

    pub fn write(&self, path: &Path) -> Result<(), Error> {
        write_private(path, &self.render())
    }
}
