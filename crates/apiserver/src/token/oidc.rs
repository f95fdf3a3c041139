//! The documents by which anyone can verify our service account tokens: OpenID Connect discovery.

use serde_json::{Value, json};

use super::Issuer;

pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
pub const JWKS_PATH: &str = "/openid/v1/jwks";
pub const JWKS_CONTENT_TYPE: &str = "application/jwk-set+json";

/// The document at [`DISCOVERY_PATH`] or [`JWKS_PATH`] with its content type.
pub fn document(issuer: &Issuer, path: &str) -> Option<(&'static str, Value)> {
    match path {
        DISCOVERY_PATH => Some(("application/json", discovery(issuer))),
        JWKS_PATH => Some((JWKS_CONTENT_TYPE, issuer.keys().jwks())),
        _ => None,
    }
}

fn discovery(issuer: &Issuer) -> Value {
    json!({
        "issuer": issuer.name(),
        "jwks_uri": issuer.jwks_uri(),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": issuer.keys().algorithms(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::test_issuer;

    #[test]
    fn documents() {
        let issuer = test_issuer();
        let (_, discovery) = document(&issuer, DISCOVERY_PATH).expect("served");
        assert_eq!(discovery["issuer"], "https://kubernetes.default.svc.cluster.local");
        assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["ES256"]));
        assert_eq!(discovery["jwks_uri"], "https://10.0.0.1:6443/openid/v1/jwks");
        let (content_type, jwks) = document(&issuer, JWKS_PATH).expect("served");
        assert_eq!(content_type, JWKS_CONTENT_TYPE);
        assert_eq!(jwks["keys"][0]["crv"], "P-256");
        assert_eq!(jwks["keys"][0]["kid"].as_str(), Some(issuer.keys().signing().1));
        assert!(document(&issuer, "/openid/v1/other").is_none());
    }
}
