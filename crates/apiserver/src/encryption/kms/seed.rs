//! Data keys. From one seed, which the plugin has encrypted, every object gets a key of its own: HKDF-Expand with SHA-256
//! over 32 random bytes, which are stored before the object (KEP-3299). So nothing has to be counted, and the plugin is
//! asked once for each seed, not for each object.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use ring::rand::{SecureRandom, SystemRandom};

use super::protocol::DekSourceType;

pub const SEED: usize = 32;
const INFO: usize = 32;
const NONCE: usize = 12;

/// What the plugin has decrypted, ready to use.
pub enum DataKey {
    Seed(Prk),
    /// As versions before 1.28 wrote it: the one key of all objects. Only read.
    Key(Box<LessSafeKey>),
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

impl DataKey {
    /// None for a source of another size than it has to have.
    pub fn new(kind: DekSourceType, source: &[u8]) -> Option<Self> {
        if source.len() != SEED {
            return None;
        }
        match kind {
            DekSourceType::HkdfSha256XnonceAesGcmSeed => {
                Some(Self::Seed(Prk::new_less_safe(HKDF_SHA256, source)))
            }
            DekSourceType::AesGcmKey => {
                let key = UnboundKey::new(&AES_256_GCM, source).ok()?;
                Some(Self::Key(Box::new(LessSafeKey::new(key))))
            }
        }
    }

    /// Info, nonce and what AES-GCM makes of the data; None when the machine has no randomness.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let Self::Seed(seed) = self else { return None };
        let (info, nonce) = (random::<INFO>()?, random::<NONCE>()?);
        let mut data = plain.to_vec();
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        derived(seed, &info)?.seal_in_place_append_tag(nonce_used, Aad::from(context), &mut data).ok()?;
        let mut out = Vec::with_capacity(INFO + NONCE + data.len());
        out.extend_from_slice(&info);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&data);
        Some(out)
    }

    /// None for what this key has not sealed, or not for this object.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Seed(seed) => {
                let (info, sealed) = sealed.split_first_chunk::<INFO>()?;
                open(&derived(seed, info)?, context, sealed)
            }
            Self::Key(key) => open(key, context, sealed),
        }
    }
}

fn derived(seed: &Prk, info: &[u8]) -> Option<LessSafeKey> {
    let info = [info];
    let mut key = [0; 32];
    seed.expand(&info, Bytes32).ok()?.fill(&mut key).ok()?;
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?))
}

fn open(key: &LessSafeKey, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, data) = sealed.split_first_chunk::<NONCE>()?;
    let mut data = data.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = key.open_in_place(nonce, Aad::from(context), &mut data).ok()?.len();
    data.truncate(length);
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_has_a_key_of_its_own() {
        let seed = DataKey::new(DekSourceType::HkdfSha256XnonceAesGcmSeed, &[7; SEED]).expect("a seed");
        let (one, two) =
            (seed.seal(b"a", b"plain").expect("sealed"), seed.seal(b"a", b"plain").expect("sealed"));
        assert_ne!(one[..INFO], two[..INFO]);
        assert_eq!(seed.open(b"a", &one).as_deref(), Some(&b"plain"[..]));
        // Moved to another object, damaged, cut off.
        assert_eq!(seed.open(b"b", &one), None);
        for at in 0..one.len() {
            let mut damaged = one.clone();
            damaged[at] ^= 1;
            assert_eq!(seed.open(b"a", &damaged), None);
            assert_eq!(seed.open(b"a", &one[..at]), None);
        }
        assert!(DataKey::new(DekSourceType::AesGcmKey, &[7; 16]).is_none());
    }

    /// RFC 5869, appendix A.1: the second step on its own.
    #[test]
    fn keys_are_derived_as_the_rfc_says() {
        let bytes = |hex: &str| -> Vec<u8> {
            hex.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
                .collect()
        };
        let key = bytes("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let info = bytes("f0f1f2f3f4f5f6f7f8f9");
        let mut out = [0; 32];
        let seed = Prk::new_less_safe(HKDF_SHA256, &key);
        seed.expand(&[&info], Bytes32).expect("short").fill(&mut out).expect("32 bytes");
        assert_eq!(out[..], bytes("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
    }
}
