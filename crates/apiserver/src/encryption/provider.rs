//! The ways of encrypting, in upstream's formats: a prefix that names kind and key, then what the kind makes.
//!
//! - `aesgcm`: nonce of 12 bytes, AES-GCM with the key of the object as additional data.
//! - `aescbc`: vector of 16 bytes, AES-CBC with PKCS#7 padding. Not authenticated: upstream advises against it.
//! - `secretbox`: nonce of 24 bytes, XSalsa20 and Poly1305.
//! - `kms`: see [`super::kms`].

use std::sync::Arc;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;

use super::kms::Kms;
use crate::admission::objects::items;

const GCM_NONCE: usize = 12;
const CBC_VECTOR: usize = 16;
const BOX_NONCE: usize = 24;

/// Data, and the mark of who has sealed them.
pub type Marked = (Vec<u8>, Arc<str>);

/// One key of one kind.
pub struct Provider {
    prefix: Arc<str>,
    cipher: Cipher,
}

enum Cipher {
    Identity,
    Gcm(Box<LessSafeKey>),
    Cbc128([u8; 16]),
    Cbc192([u8; 24]),
    Cbc256([u8; 32]),
    SecretBox(Box<XSalsa20Poly1305>),
    Kms(Box<Kms>),
}

impl Provider {
    /// A provider for each key of an entry of `providers`, in their order.
    pub fn read(entry: &Value) -> Result<Vec<Self>, String> {
        let fields = entry.as_object().ok_or("provider: is not an object")?;
        let mut fields = fields.iter();
        let (Some((kind, config)), None) = (fields.next(), fields.next()) else {
            return Err(
                "provider: exactly one of aesgcm, aescbc, secretbox, kms and identity is required".to_owned()
            );
        };
        match kind.as_str() {
            "identity" => Ok(vec![Self { prefix: "identity".into(), cipher: Cipher::Identity }]),
            "aesgcm" | "aescbc" | "secretbox" => {
                let keys: Vec<Self> =
                    items(&config["keys"]).map(|key| Self::of_key(kind, key)).collect::<Result<_, _>>()?;
                match keys.is_empty() {
                    true => Err(format!("{kind}.keys: at least one key is required")),
                    false => Ok(keys),
                }
            }
            "kms" => {
                let kms = Kms::read(config)?;
                Ok(vec![Self { prefix: kms.prefix().clone(), cipher: Cipher::Kms(Box::new(kms)) }])
            }
            other => {
                Err(format!("{other}: is not supported; aesgcm, aescbc, secretbox, kms and identity are"))
            }
        }
    }

    fn of_key(kind: &str, key: &Value) -> Result<Self, String> {
        let name = key["name"].as_str().unwrap_or_default();
        if name.is_empty() || name.contains(':') {
            return Err(format!("{kind}.keys: name {name:?} is empty or has a colon"));
        }
        let secret = STANDARD
            .decode(key["secret"].as_str().unwrap_or_default())
            .map_err(|_| format!("{kind}.keys: the secret of {name:?} is not base64"))?;
        let wrong = || format!("{kind}.keys: the secret of {name:?} has {} bytes", secret.len());
        let cipher = match (kind, secret.len()) {
            ("aesgcm", 16 | 32) => {
                let algorithm = if secret.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
                let key = UnboundKey::new(algorithm, &secret).map_err(|_| wrong())?;
                Cipher::Gcm(Box::new(LessSafeKey::new(key)))
            }
            ("aescbc", 16) => Cipher::Cbc128(secret.as_slice().try_into().map_err(|_| wrong())?),
            ("aescbc", 24) => Cipher::Cbc192(secret.as_slice().try_into().map_err(|_| wrong())?),
            ("aescbc", 32) => Cipher::Cbc256(secret.as_slice().try_into().map_err(|_| wrong())?),
            ("secretbox", 32) => {
                Cipher::SecretBox(Box::new(XSalsa20Poly1305::new_from_slice(&secret).map_err(|_| wrong())?))
            }
            _ => return Err(wrong()),
        };
        Ok(Self { prefix: format!("k8s:enc:{kind}:v1:{name}:").into(), cipher })
    }

    pub fn is_identity(&self) -> bool {
        matches!(self.cipher, Cipher::Identity)
    }

    /// What its data begin with.
    pub fn prefix(&self) -> &Arc<str> {
        &self.prefix
    }

    pub fn kms(&self) -> Option<&Kms> {
        match &self.cipher {
            Cipher::Kms(kms) => Some(kms),
            _ => None,
        }
    }

    /// Whether what was sealed by this is what this would seal now.
    pub fn is_current(&self, sealed: &str) -> bool {
        match &self.cipher {
            Cipher::Kms(kms) => kms.is_current(sealed),
            _ => *self.prefix == *sealed,
        }
    }

    /// The data as they are stored, and who has sealed them; else why not.
    pub fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Marked, String> {
        match &self.cipher {
            Cipher::Kms(kms) => kms.seal(key, plain),
            _ => {
                let sealed = self.seal_here(key, plain).ok_or("the machine has no randomness")?;
                Ok((sealed, self.prefix.clone()))
            }
        }
    }

    /// The plain data, and who had sealed them. None for what this key has not made, an error for what it has made but
    /// cannot open.
    pub fn open(&self, key: &[u8], stored: &[u8]) -> Result<Option<Marked>, String> {
        match &self.cipher {
            Cipher::Kms(kms) => match stored.strip_prefix(self.prefix.as_bytes()) {
                Some(data) => kms.open(key, data).map(Some),
                None => Ok(None),
            },
            _ => Ok(self.open_here(key, stored).map(|plain| (plain, self.prefix.clone()))),
        }
    }

    /// None when it is not possible, which only a broken machine makes so.
    fn seal_here(&self, key: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut out = self.prefix.as_bytes().to_vec();
        match &self.cipher {
            Cipher::Identity => return Some(plain.to_vec()),
            Cipher::Kms(_) => return None,
            Cipher::Gcm(cipher) => {
                let nonce = random::<GCM_NONCE>()?;
                let mut data = plain.to_vec();
                let nonce_used = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_append_tag(nonce_used, Aad::from(key), &mut data).ok()?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&data);
            }
            Cipher::SecretBox(cipher) => {
                let nonce = random::<BOX_NONCE>()?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&cipher.encrypt(&nonce.into(), plain).ok()?);
            }
            Cipher::Cbc128(secret) => {
                let vector = random::<CBC_VECTOR>()?;
                let cipher = cbc::Encryptor::<aes::Aes128>::new(secret.into(), (&vector).into());
                out.extend_from_slice(&vector);
                out.extend_from_slice(&cipher.encrypt_padded_vec::<Pkcs7>(plain));
            }
            Cipher::Cbc192(secret) => {
                let vector = random::<CBC_VECTOR>()?;
                let cipher = cbc::Encryptor::<aes::Aes192>::new(secret.into(), (&vector).into());
                out.extend_from_slice(&vector);
                out.extend_from_slice(&cipher.encrypt_padded_vec::<Pkcs7>(plain));
            }
            Cipher::Cbc256(secret) => {
                let vector = random::<CBC_VECTOR>()?;
                let cipher = cbc::Encryptor::<aes::Aes256>::new(secret.into(), (&vector).into());
                out.extend_from_slice(&vector);
                out.extend_from_slice(&cipher.encrypt_padded_vec::<Pkcs7>(plain));
            }
        }
        Some(out)
    }

    /// None for what this key has not made.
    fn open_here(&self, key: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
        if self.is_identity() {
            return None;
        }
        let data = stored.strip_prefix(self.prefix.as_bytes())?;
        match &self.cipher {
            Cipher::Identity | Cipher::Kms(_) => None,
            Cipher::Gcm(cipher) => {
                let (nonce, data) = data.split_first_chunk::<GCM_NONCE>()?;
                let mut data = data.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let length = cipher.open_in_place(nonce, Aad::from(key), &mut data).ok()?.len();
                data.truncate(length);
                Some(data)
            }
            Cipher::SecretBox(cipher) => {
                let (nonce, data) = data.split_first_chunk::<BOX_NONCE>()?;
                cipher.decrypt(&(*nonce).into(), data).ok()
            }
            Cipher::Cbc128(secret) => {
                let (vector, data) = data.split_first_chunk::<CBC_VECTOR>()?;
                let cipher = cbc::Decryptor::<aes::Aes128>::new(secret.into(), vector.into());
                cipher.decrypt_padded_vec::<Pkcs7>(data).ok()
            }
            Cipher::Cbc192(secret) => {
                let (vector, data) = data.split_first_chunk::<CBC_VECTOR>()?;
                let cipher = cbc::Decryptor::<aes::Aes192>::new(secret.into(), vector.into());
                cipher.decrypt_padded_vec::<Pkcs7>(data).ok()
            }
            Cipher::Cbc256(secret) => {
                let (vector, data) = data.split_first_chunk::<CBC_VECTOR>()?;
                let cipher = cbc::Decryptor::<aes::Aes256>::new(secret.into(), vector.into());
                cipher.decrypt_padded_vec::<Pkcs7>(data).ok()
            }
        }
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}
