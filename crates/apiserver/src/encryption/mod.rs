//! Encryption at rest: what objects look like in the store, by an EncryptionConfiguration.
//!
//! The first provider of a resource encrypts what is written; every one is tried, by the prefix that it puts before
//! its data, for what is read. So keys are rotated by adding one, putting it first, and writing everything again.
//! Encrypting happens on the way to the store and decrypting on the way into the cache, which is all that is read.

mod configuration;
mod kms;
mod provider;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::files::{self, Task};
use configuration::Rules;

/// Everything encrypted begins with this; JSON and protobuf never do.
const PREFIX: &[u8] = b"k8s:enc:";

/// Something is not as it has to be for encryption.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EncryptionError {
    #[error("cannot read the encryption configuration {path}: {reason}")]
    Read { path: PathBuf, reason: String },
    #[error("encryption configuration {path}: {reason}")]
    Configuration { path: PathBuf, reason: String },
    #[error("{resource} {key:?} could not be encrypted with {provider} {reason}")]
    Seal { resource: String, key: String, provider: String, reason: String },
    #[error("{resource} {key:?} is stored encrypted with {provider} and cannot be decrypted: {reason}")]
    Closed { resource: String, key: String, provider: String, reason: String },
    #[error(
        "{resource} {key:?} is stored encrypted ({prefix}) and no provider of the encryption configuration has a key \
         that decrypts it: add the key it was written with"
    )]
    Open { resource: String, key: String, prefix: String },
}

/// How the objects of one server are encrypted.
pub struct Encryption {
    rules: Arc<ArcSwap<Rules>>,
    /// Follows the file.
    _following: Option<Task>,
}

/// Who encrypted a stored value: the prefix before its data. None for what is not encrypted.
pub type Sealed = Option<Arc<str>>;

impl Encryption {
    /// By a configuration file, which is followed; without one nothing is encrypted.
    pub fn start(path: Option<&Path>) -> Result<Self, EncryptionError> {
        let Some(path) = path else {
            return Ok(Self { rules: Arc::default(), _following: None });
        };
        let content = std::fs::read(path)
            .map_err(|error| EncryptionError::Read { path: path.to_owned(), reason: error.to_string() })?;
        let first = Rules::parse(&content)
            .map_err(|reason| EncryptionError::Configuration { path: path.to_owned(), reason })?;
        let rules = Arc::new(ArcSwap::from_pointee(first));
        let followed = rules.clone();
        let following =
            files::follow(path, Some(files::Configuration::Encryption), content, move |content| {
                followed.store(Arc::new(Rules::parse(content)?));
                Ok::<_, String>(())
            });
        Ok(Self { rules, _following: Some(following) })
    }

    /// The value as it is stored under `key`, and by whom it is encrypted.
    pub fn seal(
        &self,
        group: &str,
        plural: &str,
        key: &str,
        plain: &Bytes,
    ) -> Result<(Bytes, Sealed), EncryptionError> {
        let rules = self.rules.load();
        let Some(provider) = rules.of(group, plural).first() else {
            return Ok((plain.clone(), None));
        };
        if provider.is_identity() {
            return Ok((plain.clone(), None));
        }
        let sealed = provider.seal(key.as_bytes(), plain);
        let (sealed, by) = sealed.map_err(|reason| EncryptionError::Seal {
            resource: named(group, plural),
            key: key.to_owned(),
            provider: provider.prefix().to_string(),
            reason,
        })?;
        Ok((sealed.into(), Some(by)))
    }

    /// The plain value of what is stored under `key`.
    pub fn open(
        &self,
        group: &str,
        plural: &str,
        key: &str,
        stored: &Bytes,
    ) -> Result<(Bytes, Sealed), EncryptionError> {
        if !stored.starts_with(PREFIX) {
            return Ok((stored.clone(), None));
        }
        let rules = self.rules.load();
        for provider in rules.of(group, plural) {
            match provider.open(key.as_bytes(), stored) {
                Ok(Some((plain, by))) => return Ok((plain.into(), Some(by))),
                Ok(None) => {}
                Err(reason) => {
                    return Err(EncryptionError::Closed {
                        resource: named(group, plural),
                        key: key.to_owned(),
                        provider: provider.prefix().to_string(),
                        reason,
                    });
                }
            }
        }
        // `k8s:enc:aesgcm:v1:key1:`, without the data after it.
        let shown = stored.iter().take(256).copied().collect::<Vec<u8>>();
        let shown = String::from_utf8_lossy(&shown).splitn(6, ':').take(5).collect::<Vec<_>>().join(":");
        Err(EncryptionError::Open { resource: named(group, plural), key: key.to_owned(), prefix: shown })
    }

    /// Whether a value that was encrypted so would be encrypted in the same way now; else it should be written again.
    pub fn is_current(&self, group: &str, plural: &str, sealed: &Sealed) -> bool {
        let rules = self.rules.load();
        let now = rules.of(group, plural).first().filter(|provider| !provider.is_identity());
        match (now, sealed) {
            (Some(provider), Some(sealed)) => provider.is_current(sealed),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether every KMS plugin is well; None where there is none.
    pub fn health(&self) -> Option<Result<(), String>> {
        let rules = self.rules.load();
        let mut plugins = rules.plugins().peekable();
        plugins.peek()?;
        Some(plugins.map(kms::Kms::health).collect::<Result<Vec<()>, _>>().map(drop))
    }
}

fn named(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY1: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    const KEY2: &str = "eHl6MzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

    fn encryption(providers: &str) -> Encryption {
        let text = format!(
            "{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{{resources: [secrets], providers: [{providers}]}}]}}"
        );
        let rules = Rules::parse(text.as_bytes()).expect("a configuration");
        Encryption { rules: Arc::new(ArcSwap::from_pointee(rules)), _following: None }
    }

    fn provider(kind: &str, name: &str, secret: &str) -> String {
        format!("{{{kind}: {{keys: [{{name: {name}, secret: {secret}}}]}}}}")
    }

    #[test]
    fn keys_are_rotated() {
        for kind in ["aescbc", "aesgcm", "secretbox"] {
            let (one, two) = (provider(kind, "one", KEY1), provider(kind, "two", KEY2));
            let plain = Bytes::from_static(b"{\"kind\":\"Secret\"}");
            let old = encryption(&format!("{one}, {{identity: {{}}}}"));
            let (stored, by) = old.seal("", "secrets", "ns/a", &plain).expect("sealed");
            assert!(stored.starts_with(format!("k8s:enc:{kind}:v1:one:").as_bytes()));
            assert!(old.is_current("", "secrets", &by) && !old.is_current("", "secrets", &None));
            let new = encryption(&format!("{two}, {one}"));
            assert_eq!(
                new.open("", "secrets", "ns/a", &stored).expect("opened"),
                (plain.clone(), by.clone())
            );
            assert!(!new.is_current("", "secrets", &by));
            let error = encryption(&two).open("", "secrets", "ns/a", &stored).expect_err("no key");
            let error = error.to_string();
            assert!(
                error.contains("secrets \"ns/a\"") && error.contains(&format!("k8s:enc:{kind}:v1:one")),
                "{error}"
            );
            // What is not encrypted is read, and others are not encrypted.
            assert_eq!(new.open("", "secrets", "ns/a", &plain).expect("opened"), (plain.clone(), None));
            assert_eq!(old.seal("", "configmaps", "ns/a", &plain).expect("as it is"), (plain, None));
        }
    }

    #[test]
    fn bad_configurations() {
        let check = |providers: &str, part: &str| {
            let text = format!(
                "{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{{resources: [secrets], providers: [{providers}]}}]}}"
            );
            let error = Rules::parse(text.as_bytes()).err().expect("refused");
            assert!(error.contains(part), "{error}, not {part}");
            assert!(!error.contains(KEY1), "{error}");
        };
        check("", "provider");
        check(&provider("aescbc", "a", "eHl6"), "bytes");
        check(&provider("secretbox", "a", "'%'"), "base64");
        check("{aesgcm: {keys: []}}", "key");
        check("{rot13: {}}", "rot13");
        check("{kms: {name: x, endpoint: 'unix:///x'}}", "kms.apiVersion");
        check("{kms: {apiVersion: v2, name: x, endpoint: 'tcp://x'}}", "kms.endpoint");
        check("{kms: {apiVersion: v2, name: 'x:y', endpoint: 'unix:///x'}}", "kms.name");
        check("{kms: {apiVersion: v2, name: x, cachesize: 5, endpoint: 'unix:///x'}}", "kms.cachesize");
        check("{kms: {apiVersion: v2, name: x, timeout: 0s, endpoint: 'unix:///x'}}", "kms.timeout");
        let kms = "{kms: {apiVersion: v2, name: x, endpoint: 'unix:///x'}}";
        check(&format!("{kms}, {kms}"), "twice");
        check(&provider("aescbc", "'a:b'", KEY1), "name");
    }

    proptest! {
        #[test]
        fn what_is_tampered_with_is_refused(plain in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let plain = Bytes::from(plain);
            for kind in ["aesgcm", "secretbox", "aescbc"] {
                let encryption = encryption(&provider(kind, "k", KEY1));
                let (stored, _) = encryption.seal("", "secrets", "ns/a", &plain).expect("sealed");
                let opened = encryption.open("", "secrets", "ns/a", &stored).expect("opened").0;
                prop_assert_eq!(&opened, &plain);
                let mut damaged = stored.to_vec();
                let at = at.index(damaged.len());
                damaged[at] ^= 1 << bit;
                // CBC does not notice by itself; nothing may panic.
                let opened = encryption.open("", "secrets", "ns/a", &damaged.into());
                if kind != "aescbc" && at >= PREFIX.len() {
                    prop_assert!(opened.is_err());
                }
            }
        }
    }
}
