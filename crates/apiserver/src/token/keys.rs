//! The keys that sign and verify service account tokens.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as SpkiKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read service account key file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("service account key file: malformed PEM: {0}")]
    Pem(String),
    #[error(
        "service account key file: no private key (PKCS#8 ECDSA P-256, or RSA of 2048 bits or more) to sign with"
    )]
    NoSigningKey,
    #[error(
        "service account key file: unusable {kind} key: {reason}; keys are ECDSA P-256 in PKCS#8 \
         (`openssl pkcs8 -topk8 -nodes`) or RSA of 2048 bits or more"
    )]
    Unusable { kind: &'static str, reason: String },
}

/// The JWS algorithms that are signed and accepted. `none` and the symmetric ones do not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Es256,
    Rs256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Es256 => "ES256",
            Algorithm::Rs256 => "RS256",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Algorithm::Es256),
            "RS256" => Some(Algorithm::Rs256),
            _ => None,
        }
    }
}

enum PublicKey {
    /// The uncompressed point.
    P256(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

/// A key that verifies signatures.
pub struct Verifier {
    /// As upstream derives it: base64url of the SHA-256 of the SubjectPublicKeyInfo.
    pub id: String,
    key: PublicKey,
}

enum Signer {
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// All keys of the file: the first private one signs, every one verifies.
pub struct Keys {
    signer: Signer,
    signer_id: String,
    verifiers: Vec<Verifier>,
    random: SystemRandom,
}

impl Keys {
    /// The file of the key that signs, and those of keys that only verify.
    pub fn load(path: &Path, others: &[PathBuf]) -> Result<Self, KeyError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })
        };
        let mut pem = read(path)?;
        for other in others {
            pem.push(b'\n');
            pem.extend(read(other)?);
        }
        Self::from_pem(&pem)
    }

    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let mut signer = None;
        let mut verifiers = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|error| KeyError::Pem(error.to_string()))?;
            let (new_signer, verifier) = match kind {
                SectionKind::PrivateKey => private_key(&der, &random)?,
                SectionKind::RsaPrivateKey => {
                    rsa_private_key(RsaKeyPair::from_der(&der).map_err(unusable("RSA private"))?)
                }
                SectionKind::PublicKey => {
                    verifiers.push(public_key(&der)?);
                    continue;
                }
                SectionKind::EcPrivateKey => {
                    return Err(unusable("EC private")("it is in SEC1 format, not PKCS#8"));
                }
                _ => continue,
            };
            if signer.is_none() {
                signer = Some((new_signer, verifier.id.clone()));
            }
            verifiers.push(verifier);
        }
        let (signer, signer_id) = signer.ok_or(KeyError::NoSigningKey)?;
        Ok(Self { signer, signer_id, verifiers, random })
    }

    /// Algorithm and key id for the header of a new token.
    pub fn signing(&self) -> (Algorithm, &str) {
        let algorithm = match self.signer {
            Signer::Ecdsa(_) => Algorithm::Es256,
            Signer::Rsa(_) => Algorithm::Rs256,
        };
        (algorithm, &self.signer_id)
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        match &self.signer {
            Signer::Ecdsa(pair) => Ok(pair.sign(&self.random, message)?.as_ref().to_vec()),
            Signer::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut out)?;
                Ok(out)
            }
        }
    }

    /// Whether any key of that algorithm (the one named `id`, where there is one) made the signature.
    pub fn verify(&self, algorithm: Algorithm, id: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let named = id.and_then(|id| self.verifiers.iter().find(|key| key.id == id));
        match named {
            Some(key) => key.verify(algorithm, message, signature),
            None => self.verifiers.iter().any(|key| key.verify(algorithm, message, signature)),
        }
    }

    /// The JSON Web Key Set of all keys.
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.verifiers.iter().map(Verifier::jwk).collect();
        json!({ "keys": keys })
    }

    /// The algorithms of the keys, for the discovery document.
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.verifiers.iter().map(|key| key.algorithm().name()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Verifier {
    fn new(spki: &[u8], key: PublicKey) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, spki);
        Self { id: URL_SAFE_NO_PAD.encode(digest), key }
    }

    fn algorithm(&self) -> Algorithm {
        match self.key {
            PublicKey::P256(_) => Algorithm::Es256,
            PublicKey::Rsa { .. } => Algorithm::Rs256,
        }
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (&self.key, algorithm) {
            (PublicKey::P256(point), Algorithm::Es256) => {
                signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
                    .is_ok()
            }
            (PublicKey::Rsa { modulus, exponent }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n: modulus, e: exponent }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                    .is_ok()
            }
            _ => false,
        }
    }

    fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.key {
            PublicKey::P256(point) => {
                // 0x04, then two coordinates of 32 bytes; checked when the key was read.
                let (x, y) = point.get(1..).unwrap_or_default().split_at(32);
                json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
                       "x": encode(x), "y": encode(y)})
            }
            PublicKey::Rsa { modulus, exponent } => {
                json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256",
                       "n": encode(modulus), "e": encode(exponent)})
            }
        }
    }
}

fn unusable<E: ToString>(kind: &'static str) -> impl Fn(E) -> KeyError {
    move |reason| KeyError::Unusable { kind, reason: reason.to_string() }
}

fn private_key(der: &[u8], random: &SystemRandom) -> Result<(Signer, Verifier), KeyError> {
    match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, random) {
        Ok(pair) => {
            let point = pair.public_key().as_ref().to_vec();
            let verifier = Verifier::new(&p256_spki(&point), PublicKey::P256(point));
            Ok((Signer::Ecdsa(Box::new(pair)), verifier))
        }
        Err(ecdsa) => match RsaKeyPair::from_pkcs8(der) {
            Ok(pair) => Ok(rsa_private_key(pair)),
            Err(rsa) => Err(KeyError::Unusable {
                kind: "private",
                reason: format!("as ECDSA: {ecdsa}; as RSA: {rsa}"),
            }),
        },
    }
}

fn rsa_private_key(pair: RsaKeyPair) -> (Signer, Verifier) {
    let public: RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
    let spki = rsa_spki(pair.public().as_ref());
    let key = PublicKey::Rsa { modulus: public.n, exponent: public.e };
    (Signer::Rsa(Box::new(pair)), Verifier::new(&spki, key))
}

fn public_key(der: &[u8]) -> Result<Verifier, KeyError> {
    let (_, spki) =
        SubjectPublicKeyInfo::from_der(der).map_err(|error| unusable("public")(error.to_string()))?;
    match spki.parsed() {
        Ok(SpkiKey::EC(point)) if point.data().len() == 65 && point.data().first() == Some(&4) => {
            Ok(Verifier::new(der, PublicKey::P256(point.data().to_vec())))
        }
        Ok(SpkiKey::RSA(rsa)) => {
            let strip = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                bytes.get(zeros..).unwrap_or_default().to_vec()
            };
            let key = PublicKey::Rsa { modulus: strip(rsa.modulus), exponent: strip(rsa.exponent) };
            Ok(Verifier::new(der, key))
        }
        _ => Err(unusable("public")("neither RSA nor an uncompressed P-256 point")),
    }
}

/// SubjectPublicKeyInfo of a P-256 point: a fixed prefix (id-ecPublicKey, prime256v1) and the point.
fn p256_spki(point: &[u8]) -> Vec<u8> {
    const PREFIX: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    [&PREFIX, point].concat()
}

/// SubjectPublicKeyInfo of a PKCS#1 RSAPublicKey.
fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    const RSA_ENCRYPTION: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let bits = der_tlv(0x03, &[&[0][..], pkcs1].concat());
    der_tlv(0x30, &[&RSA_ENCRYPTION[..], &bits].concat())
}

fn der_tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.iter().copied().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(significant.first().copied().unwrap_or(0));
    } else {
        // At most eight bytes of length.
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(&significant);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fresh ES256 key.
    pub(crate) fn test_keys() -> Keys {
        Keys::from_pem(test_pem().as_bytes()).expect("a fresh key is usable")
    }

    pub(crate) fn test_pem() -> String {
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("generates");
        pem("PRIVATE KEY", der.as_ref())
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn signs_and_verifies() {
        let keys = test_keys();
        let other = test_keys();
        let (algorithm, id) = keys.signing();
        let signature = keys.sign(b"message").expect("signs");
        assert!(keys.verify(algorithm, Some(id), b"message", &signature));
        assert!(keys.verify(algorithm, None, b"message", &signature));
        assert!(!keys.verify(algorithm, Some(id), b"massage", &signature));
        assert!(!keys.verify(Algorithm::Rs256, Some(id), b"message", &signature));
        assert!(!other.verify(algorithm, Some(id), b"message", &signature));
    }

    #[test]
    fn public_keys_verify_but_do_not_sign() {
        let old = test_keys();
        let Some(PublicKey::P256(point)) = old.verifiers.first().map(|verifier| &verifier.key) else {
            panic!("not an EC key");
        };
        let public = pem("PUBLIC KEY", &p256_spki(point));
        assert!(matches!(Keys::from_pem(public.as_bytes()), Err(KeyError::NoSigningKey)));
        let both = Keys::from_pem(format!("{}{public}", test_pem()).as_bytes()).expect("both load");
        assert_eq!(both.verifiers.len(), 2);
        let signature = old.sign(b"m").expect("signs");
        assert!(both.verify(Algorithm::Es256, Some(&old.signer_id), b"m", &signature));
        assert_ne!(both.signer_id, old.signer_id);
    }

    #[test]
    fn bad_files_are_named() {
        let check = |pem: &str, part: &str| {
            let error = Keys::from_pem(pem.as_bytes()).err().expect("refused");
            assert!(error.to_string().contains(part), "{error}");
        };
        check("", "no private key");
        check("-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n", "malformed");
        check(&pem("PRIVATE KEY", b"junk"), "unusable private key");
        check(&pem("EC PRIVATE KEY", b"junk"), "PKCS#8");
    }

    #[test]
    fn der_lengths() {
        assert_eq!(der_tlv(4, &[]), [4, 0]);
        assert_eq!(der_tlv(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(der_tlv(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(der_tlv(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }
}
