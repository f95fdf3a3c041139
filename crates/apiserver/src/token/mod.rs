//! Service account tokens: signing keys, claims, the `serviceaccounts/token` subresource and the documents
//! by which others verify our tokens.
//!
//! A token is a JWT. The server signs it for a `TokenRequest` ([`request`]) with the first key of
//! `service_account_key` ([`keys`]) and accepts it again in [`crate::authn`], after the objects that its
//! claims ([`claims`]) are bound to have been looked up. [`oidc`] publishes issuer and public keys.

pub mod claims;
pub mod jwt;
pub mod keys;
pub mod oidc;
pub mod request;

use std::net::IpAddr;

use crate::config::Config;
use keys::{KeyError, Keys};

/// The authority that service account tokens come from: a name and keys.
pub struct Issuer {
    name: String,
    former: Vec<String>,
    /// Who tokens for this server are meant for; the first is put into new ones.
    audiences: Vec<String>,
    keys: Keys,
    jwks_uri: String,
}

impl Issuer {
    pub fn new(config: &Config) -> Result<Self, KeyError> {
        let keys = Keys::load(&config.service_account_key, &config.service_account_verification_keys)?;
        let mut issuer = Self::with_keys(config.issuer.clone(), keys, config.advertise, config.port);
        issuer.former.clone_from(&config.former_issuers);
        if !config.api_audiences.is_empty() {
            issuer.audiences.clone_from(&config.api_audiences);
        }
        if let Some(uri) = &config.jwks_uri {
            issuer.jwks_uri.clone_from(uri);
        }
        Ok(issuer)
    }

    fn with_keys(name: String, keys: Keys, advertise: IpAddr, port: u16) -> Self {
        let host = match advertise {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Self {
            former: Vec::new(),
            audiences: vec![name.clone()],
            jwks_uri: format!("https://{host}:{port}{}", oidc::JWKS_PATH),
            name,
            keys,
        }
    }

    /// `iss` of every new token.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether tokens of this `iss` are ours.
    pub fn issues(&self, iss: &str) -> bool {
        self.name == iss || self.former.iter().any(|former| former == iss)
    }

    /// Every `iss` that is ours.
    pub fn names(&self) -> Vec<String> {
        std::iter::once(&self.name).chain(&self.former).cloned().collect()
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    fn jwks_uri(&self) -> &str {
        &self.jwks_uri
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn test_issuer() -> Issuer {
        Issuer::with_keys(
            "https://kubernetes.default.svc.cluster.local".to_owned(),
            keys::tests::test_keys(),
            IpAddr::from([10, 0, 0, 1]),
            6443,
        )
    }
}
