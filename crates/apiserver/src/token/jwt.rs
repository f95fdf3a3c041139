//! The JWS compact form: `base64url(header).base64url(claims).base64url(signature)`.
//!
//! What arrives here comes from anyone who can open a connection, so nothing is believed, and next to nothing
//! allocated, before the signature has been verified.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keys::{Algorithm, Keys};

/// Tokens of pods are about 1 KiB; HTTP headers end at 64 KiB or earlier anyhow.
const MAX_TOKEN: usize = 16 * 1024;
const MAX_HEADER: usize = 2 * 1024;

/// Why a token was not accepted. Never contains the token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JwtError {
    #[error("the token is not a JWT in compact form")]
    Malformed,
    #[error("the token is longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("the token's algorithm is not supported, only ES256 and RS256 are")]
    Algorithm,
    #[error("the token's signature does not match any key of this server")]
    Signature,
    #[error("the token's claims cannot be read")]
    Claims,
    #[error("the token could not be signed")]
    Signing,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    /// Extensions that a verifier must understand: we know none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<Vec<String>>,
}

/// Signs claims with the server's signing key.
pub fn sign<C: Serialize>(keys: &Keys, claims: &C) -> Result<String, JwtError> {
    let (algorithm, id) = keys.signing();
    let header = Header { alg: algorithm.name().to_owned(), kid: Some(id.to_owned()), crit: None };
    let part = |json: Result<Vec<u8>, serde_json::Error>| {
        json.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).map_err(|_| JwtError::Signing)
    };
    let mut token = part(serde_json::to_vec(&header))?;
    token.push('.');
    token.push_str(&part(serde_json::to_vec(claims))?);
    let signature = keys.sign(token.as_bytes()).map_err(|_| JwtError::Signing)?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// The parts of a token, not verified at all.
pub struct Unverified<'a> {
    pub algorithm: String,
    pub key: Option<String>,
    /// What is signed.
    pub message: &'a str,
    pub signature: Vec<u8>,
    pub claims: Vec<u8>,
}

impl<'a> Unverified<'a> {
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN {
            return Err(JwtError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(JwtError::Malformed)?;
        if claims.contains('.') || header.len() > MAX_HEADER {
            return Err(JwtError::Malformed);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| JwtError::Malformed)?;
        if header.crit.is_some() {
            return Err(JwtError::Malformed);
        }
        let (signature, claims) = (decode(signature)?, decode(claims)?);
        Ok(Self { algorithm: header.alg, key: header.kid, message, signature, claims })
    }
}

/// The claims of a token that one of the server's keys has signed.
pub fn verify<C: DeserializeOwned>(keys: &Keys, token: &str) -> Result<C, JwtError> {
    let parsed = Unverified::parse(token)?;
    let algorithm = Algorithm::from_name(&parsed.algorithm).ok_or(JwtError::Algorithm)?;
    if !keys.verify(algorithm, parsed.key.as_deref(), parsed.message.as_bytes(), &parsed.signature) {
        return Err(JwtError::Signature);
    }
    serde_json::from_slice(&parsed.claims).map_err(|_| JwtError::Claims)
}

/// The issuer that an unverified token claims, to tell our own tokens from foreign ones.
pub fn unverified_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    if token.len() > MAX_TOKEN {
        return None;
    }
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice::<Issuer>(&claims).ok().map(|claims| claims.iss)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::keys::tests::test_keys;
    use super::*;

    fn encode(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    #[test]
    fn round_trip() {
        let keys = test_keys();
        let claims = json!({"iss": "https://issuer", "sub": "x"});
        let token = sign(&keys, &claims).expect("signs");
        assert_eq!(verify::<Value>(&keys, &token), Ok(claims));
        assert_eq!(unverified_issuer(&token).as_deref(), Some("https://issuer"));
        assert_eq!(verify::<Value>(&test_keys(), &token), Err(JwtError::Signature));
    }

    #[test]
    fn hostile_tokens() {
        let keys = test_keys();
        let claims = encode(&json!({"sub": "x"}));
        let check = |token: String, expected: JwtError| {
            assert_eq!(verify::<Value>(&keys, &token), Err(expected), "{token}");
        };
        check(String::new(), JwtError::Malformed);
        check("a.b".into(), JwtError::Malformed);
        check("a.b.c.d".into(), JwtError::Malformed);
        check("..".into(), JwtError::Malformed);
        check("x".repeat(MAX_TOKEN + 1), JwtError::TooLong);
        let none = encode(&json!({"alg": "none"}));
        check(format!("{none}.{claims}."), JwtError::Algorithm);
        let hs256 = encode(&json!({"alg": "HS256"}));
        check(format!("{hs256}.{claims}.AAAA"), JwtError::Algorithm);
        let es256 = encode(&json!({"alg": "ES256"}));
        check(format!("{es256}.{claims}."), JwtError::Signature);
        check(format!("{es256}.{claims}.AAAA"), JwtError::Signature);
        let critical = encode(&json!({"alg": "ES256", "crit": ["x"]}));
        check(format!("{critical}.{claims}.AAAA"), JwtError::Malformed);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_accepts(token in "[A-Za-z0-9_.=-]{0,400}") {
            let keys = test_keys();
            prop_assert!(verify::<Value>(&keys, &token).is_err());
            let _ = unverified_issuer(&token);
        }

        #[test]
        fn one_changed_byte_is_refused(position in 0usize..4096, byte in 0u8..=127) {
            let keys = test_keys();
            let token = sign(&keys, &json!({"sub": "x", "aud": ["a", "b"]})).expect("signs");
            let mut bytes = token.clone().into_bytes();
            let at = position % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let changed = String::from_utf8(bytes).expect("ASCII");
            prop_assert!(verify::<Value>(&keys, &changed).is_err());
        }
    }
}
