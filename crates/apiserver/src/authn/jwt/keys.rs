//! The keys of an issuer: found by discovery, kept, and fetched anew when a token names one that is not there.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::JwtAuthnError;
use crate::admission::objects::items;
use crate::outbound::client::Client;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens that name unknown keys make the server ask no more often than this.
const PAUSE: Duration = Duration::from_secs(1);
/// No issuer has more.
const MAX_KEYS: usize = 100;

enum Public {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    public: Public,
}

/// The keys of one issuer.
pub struct Keys {
    client: Client,
    issuer: String,
    discovery: String,
    known: ArcSwap<Vec<Key>>,
    /// When they were fetched last.
    fetching: Mutex<Option<Instant>>,
}

impl Keys {
    pub fn new(client: Client, issuer: String, discovery: String) -> Self {
        Self { client, issuer, discovery, known: ArcSwap::default(), fetching: Mutex::new(None) }
    }

    /// Whether one of the issuer's keys has made the signature.
    pub async fn verify(
        &self,
        algorithm: &str,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), JwtAuthnError> {
        let seen = self.known.load_full();
        if is_signed(&seen, algorithm, id, message, signature) {
            return Ok(());
        }
        // A signature that is wrong for a key that is there stays wrong.
        if id.is_some() && seen.iter().any(|key| key.id.as_deref() == id) {
            return Err(JwtAuthnError::Signature);
        }
        let current = self.fetched(&seen).await?;
        match is_signed(&current, algorithm, id, message, signature) {
            true => Ok(()),
            false => Err(JwtAuthnError::Signature),
        }
    }

    /// Keys newer than `seen`. Who comes while they are being fetched gets the same.
    async fn fetched(&self, seen: &Arc<Vec<Key>>) -> Result<Arc<Vec<Key>>, JwtAuthnError> {
        let mut last = self.fetching.lock().await;
        let known = self.known.load_full();
        if !Arc::ptr_eq(&known, seen) {
            return Ok(known);
        }
        if let Some(last) = *last {
            tokio::time::sleep_until(last + PAUSE).await;
        }
        let fetched = self.fetch().await;
        *last = Some(Instant::now());
        let keys = Arc::new(fetched?);
        self.known.store(keys.clone());
        Ok(keys)
    }

    async fn fetch(&self) -> Result<Vec<Key>, JwtAuthnError> {
        let document = self.document(&self.discovery).await?;
        if document["issuer"].as_str() != Some(&self.issuer) {
            return Err(JwtAuthnError::Discovery {
                url: self.discovery.clone(),
                reason: format!("its issuer is {}, not {:?}", document["issuer"], self.issuer),
            });
        }
        let failed = |reason: &str| JwtAuthnError::Discovery {
            url: self.discovery.clone(),
            reason: reason.to_owned(),
        };
        let jwks_uri = document["jwks_uri"].as_str().ok_or_else(|| failed("it has no jwks_uri"))?;
        let jwks = self.document(jwks_uri).await?;
        Ok(items(&jwks["keys"]).filter_map(Key::read).take(MAX_KEYS).collect())
    }

    async fn document(&self, url: &str) -> Result<Value, JwtAuthnError> {
        let failed = |reason: String| JwtAuthnError::Discovery { url: url.to_owned(), reason };
        let bytes = self.client.get(url, TIMEOUT).await.map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| failed(format!("not JSON: {error}")))
    }
}

fn is_signed(keys: &[Key], algorithm: &str, id: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
    let fits = |key: &&Key| {
        let named = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
        named && key.algorithm.as_deref().is_none_or(|only| only == algorithm)
    };
    keys.iter().filter(fits).any(|key| key.verify(algorithm, message, signature))
}

impl Key {
    /// Keys that are not for signatures, or of kinds that we do not know, are left out.
    fn read(jwk: &Value) -> Option<Self> {
        if jwk["use"].as_str().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(jwk[field].as_str()?.trim_end_matches('=')).ok();
        let point = |length: usize| -> Option<Vec<u8>> {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == length && y.len() == length).then(|| [&[4][..], &x, &y].concat())
        };
        let public = match (jwk["kty"].as_str()?, jwk["crv"].as_str()) {
            ("RSA", _) => Public::Rsa { modulus: bytes("n")?, exponent: bytes("e")? },
            ("EC", Some("P-256")) => Public::P256(point(32)?),
            ("EC", Some("P-384")) => Public::P384(point(48)?),
            _ => return None,
        };
        let text = |field: &str| jwk[field].as_str().map(str::to_owned);
        Some(Self { id: text("kid"), algorithm: text("alg"), public })
    }

    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let of = |algorithm: &'static dyn VerificationAlgorithm, point: &[u8]| {
            UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
        };
        match (&self.public, algorithm) {
            (Public::P256(point), "ES256") => of(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Public::P384(point), "ES384") => of(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Public::Rsa { modulus, exponent }, _) => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n: modulus, e: exponent }
                    .verify(parameters, message, signature)
                    .is_ok()
            }
            _ => false,
        }
    }
}
