//! Who has shown that he may have an image: files below `image_manager`, as upstream keeps them.
//!
//! `pulling` holds the images that are being brought; what is there when the kubelet starts was interrupted. `pulled` says
//! for each image which credentials opened the registry. An image without such a file was on the machine before: whether
//! that needs proof is `imagePullCredentialsVerificationPolicy`'s to say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::credentials::Source;
use super::reference::repository;
use crate::checkpoint;
use crate::config::KubeletConfiguration;

const VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// Proofs that are remembered of an image, at most.
const MOST: usize = 100;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PullSecret {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub credential_hash: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PullAccount {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// What opened the registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PullCredentials {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_secrets: Vec<PullSecret>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_service_accounts: Vec<PullAccount>,
    /// Nothing did, or the node's own: every pod may have the image.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_pods_accessible: bool,
}

impl PullCredentials {
    pub fn of(source: Source) -> Self {
        match source {
            Source::Secret(secret) => Self { kubernetes_secrets: vec![secret], ..Self::default() },
            Source::Account(account) => {
                Self { kubernetes_service_accounts: vec![account], ..Self::default() }
            }
            Source::Node => Self { node_pods_accessible: true, ..Self::default() },
        }
    }

    /// With what another one knows; false when that is nothing new.
    fn merge(&mut self, other: Self) -> bool {
        let before = self.clone();
        if self.node_pods_accessible || other.node_pods_accessible {
            *self = Self::of(Source::Node);
            return *self != before;
        }
        for secret in other.kubernetes_secrets {
            let same = |known: &&mut PullSecret| {
                (&known.uid, &known.namespace, &known.name) == (&secret.uid, &secret.namespace, &secret.name)
            };
            if let Some(known) = self.kubernetes_secrets.iter_mut().find(same) {
                known.credential_hash = secret.credential_hash;
            } else if self.kubernetes_secrets.len() < MOST {
                self.kubernetes_secrets.push(secret);
            }
        }
        for account in other.kubernetes_service_accounts {
            let accounts = &mut self.kubernetes_service_accounts;
            if !accounts.contains(&account) && accounts.len() < MOST {
                accounts.push(account);
            }
        }
        *self != before
    }
}

/// Which of the things that a pod can show proves that it may have the image.
pub fn proof(known: &PullCredentials, shown: &[Source]) -> Option<PullCredentials> {
    let proves = |source: &&Source| match source {
        Source::Node => false,
        Source::Account(account) => known.kubernetes_service_accounts.contains(account),
        Source::Secret(secret) => known.kubernetes_secrets.iter().any(|known| {
            let same_content =
                !known.credential_hash.is_empty() && known.credential_hash == secret.credential_hash;
            let same_object =
                (&known.uid, &known.namespace, &known.name) == (&secret.uid, &secret.namespace, &secret.name);
            same_content || same_object
        }),
    };
    shown.iter().find(proves).cloned().map(PullCredentials::of)
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Pulled {
    kind: String,
    api_version: String,
    last_updated_time: String,
    image_ref: String,
    /// By repository.
    credential_mapping: BTreeMap<String, PullCredentials>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Intent {
    kind: String,
    api_version: String,
    image: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Policy {
    NeverVerify,
    NeverVerifyPreloaded,
    /// Repositories; those that end in a slash are prefixes.
    NeverVerifyAllowlisted(Vec<String>),
    AlwaysVerify,
}

impl Policy {
    fn new(config: &KubeletConfiguration) -> Result<Self, String> {
        match config.image_pull_credentials_verification_policy.as_str() {
            "NeverVerify" => Ok(Self::NeverVerify),
            "NeverVerifyPreloadedImages" | "" => Ok(Self::NeverVerifyPreloaded),
            "NeverVerifyAllowlistedImages" => {
                let patterns = config.preloaded_images_verification_allowlist.iter();
                let pattern = |pattern: &String| match pattern.strip_suffix('*') {
                    Some(prefix) if !prefix.ends_with('/') || prefix.len() < 2 || prefix.contains('*') => {
                        Err(format!(
                            "not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
                        ))
                    }
                    Some(prefix) => Ok(prefix.to_owned()),
                    None => Ok(pattern.clone()),
                };
                patterns.map(pattern).collect::<Result<_, _>>().map(Self::NeverVerifyAllowlisted)
            }
            "AlwaysVerify" => Ok(Self::AlwaysVerify),
            other => Err(format!("unknown image pull credential verification policy: {other}")),
        }
    }

    fn verifies(&self, repository: &str, pulled: bool) -> bool {
        match self {
            Self::NeverVerify => false,
            Self::NeverVerifyPreloaded => pulled,
            Self::NeverVerifyAllowlisted(patterns) => !patterns.iter().any(|pattern| {
                if pattern.ends_with('/') { repository.starts_with(pattern) } else { repository == pattern }
            }),
            Self::AlwaysVerify => true,
        }
    }
}

pub struct Records {
    policy: Policy,
    dir: PathBuf,
    /// Images that are being pulled, and how often.
    pulling: Mutex<BTreeMap<String, usize>>,
}

fn file_name(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256-{hex}")
}

impl Records {
    pub fn new(config: &KubeletConfiguration, root: &Path) -> Result<Self, String> {
        let dir = root.join("image_manager");
        Ok(Self { policy: Policy::new(config)?, dir, pulling: Mutex::default() })
    }

    fn pulled_file(&self, id: &str) -> PathBuf {
        self.dir.join("pulled").join(file_name(id))
    }

    fn intent_file(&self, image: &str) -> PathBuf {
        self.dir.join("pulling").join(file_name(image))
    }

    fn known(&self, id: &str) -> Option<Pulled> {
        let path = self.pulled_file(id);
        path.exists().then(|| checkpoint::read(&path, "who may have an image"))
    }

    /// What a pod has to have something of before it may use the image that is there; nothing if everybody may.
    pub fn to_be_shown(&self, image: &str, id: &str) -> Option<PullCredentials> {
        let known = self.known(id);
        let pulled = known.is_some() || self.intent_file(image).exists();
        let repository = repository(image);
        if !self.policy.verifies(&repository, pulled) {
            return None;
        }
        let mut mapping = known.unwrap_or_default().credential_mapping;
        let credentials = mapping.remove(&repository).unwrap_or_default();
        (!credentials.node_pods_accessible).then_some(credentials)
    }

    /// Notes that the image is being brought, until what is returned is dropped.
    pub fn intend(&self, image: &str) -> Intention<'_> {
        let intent =
            Intent { kind: "ImagePullIntent".into(), api_version: VERSION.into(), image: image.to_owned() };
        if let Err(error) = checkpoint::write(&self.intent_file(image), &intent) {
            warn!(image, error, "an image that is being pulled would be everybody's after a crash");
        }
        *self.pulling.lock().entry(image.to_owned()).or_default() += 1;
        Intention { records: self, image: image.to_owned() }
    }

    /// The image was brought with these credentials, or they have been shown for it.
    pub fn pulled(&self, image: &str, id: &str, credentials: PullCredentials) {
        let mut record = self.known(id).unwrap_or_else(|| Pulled {
            kind: "ImagePulledRecord".into(),
            api_version: VERSION.into(),
            image_ref: id.to_owned(),
            ..Default::default()
        });
        let new = record.last_updated_time.is_empty();
        let changed = record.credential_mapping.entry(repository(image)).or_default().merge(credentials);
        if !new && !changed {
            return;
        }
        record.last_updated_time = Timestamp::now().to_string();
        if let Err(error) = checkpoint::write(&self.pulled_file(id), &record) {
            warn!(image, error, "cannot note who may have an image");
        }
    }

    /// The images whose pulls have never ended.
    pub fn interrupted(&self) -> Vec<String> {
        let files = fs::read_dir(self.dir.join("pulling")).into_iter().flatten().flatten();
        let intent = |path: &Path| -> Intent { checkpoint::read(path, "which image was being pulled") };
        files.map(|file| intent(&file.path()).image).filter(|image| !image.is_empty()).collect()
    }

    /// Such a pull has brought the image, or none: nobody has proved anything.
    pub fn recovered(&self, image: &str, id: Option<&str>) {
        if self.pulling.lock().contains_key(image) {
            return;
        }
        if let Some(id) = id {
            self.pulled(image, id, PullCredentials::default());
        }
        let _ = fs::remove_file(self.intent_file(image));
    }

    /// Forgets images that are not there any more.
    pub fn prune(&self, images: &[String]) {
        let kept: Vec<String> = images.iter().map(|id| file_name(id)).collect();
        for file in fs::read_dir(self.dir.join("pulled")).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            // One that has just been written is of an image that the list does not have yet.
            let age = file.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            let old = age.is_some_and(|age| age.as_secs() >= 60);
            if old && !kept.contains(&name) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

/// An image is being brought.
pub struct Intention<'a> {
    records: &'a Records,
    image: String,
}

impl Drop for Intention<'_> {
    fn drop(&mut self) {
        let mut pulling = self.records.pulling.lock();
        let count = pulling.entry(self.image.clone()).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            pulling.remove(&self.image);
            let _ = fs::remove_file(self.records.intent_file(&self.image));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(policy: &str, allowed: &[&str], dir: &Path) -> Records {
        let config = KubeletConfiguration {
            image_pull_credentials_verification_policy: policy.into(),
            preloaded_images_verification_allowlist: allowed.iter().map(|one| (*one).to_owned()).collect(),
            ..Default::default()
        };
        Records::new(&config, dir).unwrap()
    }

    fn secret(uid: &str, hash: &str) -> Source {
        Source::Secret(PullSecret {
            uid: uid.into(),
            namespace: "n".into(),
            name: "s".into(),
            credential_hash: hash.into(),
        })
    }

    #[test]
    fn an_image_is_for_those_who_can_show_something() {
        let dir = tempfile::tempdir().unwrap();
        let records = records("", &[], dir.path());
        assert_eq!(records.to_be_shown("reg.example/a:1", "sha256:1"), None, "it was there before");
        records.pulled("reg.example/a:1", "sha256:1", PullCredentials::of(secret("u", "h")));
        let known = records.to_be_shown("reg.example/a:2", "sha256:1").unwrap();
        let check = |shown: &[Source], expected: bool| {
            assert_eq!(proof(&known, shown).is_some(), expected, "{shown:?}");
        };
        check(&[], false);
        check(&[secret("other", "other")], false);
        check(&[secret("other", "other"), secret("other", "h")], true);
        check(&[secret("u", "new")], true);
        check(&[Source::Node], false);
        // The same image of another repository has nothing to do with that.
        let other = records.to_be_shown("reg.example/b:1", "sha256:1").unwrap();
        assert_eq!(proof(&other, &[secret("u", "h")]), None);
        records.pulled("reg.example/b:1", "sha256:1", PullCredentials::of(Source::Node));
        assert_eq!(records.to_be_shown("reg.example/b:1", "sha256:1"), None);
        records.prune(&[]);
        assert!(records.to_be_shown("reg.example/a:2", "sha256:1").is_some(), "too young to be forgotten");
    }

    #[test]
    fn an_interrupted_pull_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let before = records("", &[], dir.path());
        let intention = before.intend("reg.example/a:1");
        assert_eq!(before.to_be_shown("reg.example/a:1", "sha256:1"), Some(PullCredentials::default()));
        std::mem::forget(intention);
        let after = records("", &[], dir.path());
        assert_eq!(after.interrupted(), ["reg.example/a:1"]);
        after.recovered("reg.example/a:1", Some("sha256:1"));
        assert!(after.interrupted().is_empty());
        assert_eq!(after.to_be_shown("reg.example/a:1", "sha256:1"), Some(PullCredentials::default()));
        drop(after.intend("reg.example/b:1"));
        assert!(after.interrupted().is_empty());
    }

    #[test]
    fn policies() {
        let dir = tempfile::tempdir().unwrap();
        let check = |policy: &str, allowed: &[&str], image: &str, expected: bool| {
            let records = records(policy, allowed, dir.path());
            assert_eq!(records.to_be_shown(image, "sha256:1").is_some(), expected, "{policy} {image}");
        };
        check("AlwaysVerify", &[], "busybox", true);
        check("NeverVerify", &[], "busybox", false);
        check("NeverVerifyPreloadedImages", &[], "busybox", false);
        let listed = ["docker.io/library/busybox", "reg.example/team/*"];
        check("NeverVerifyAllowlistedImages", &listed, "busybox:1", false);
        check("NeverVerifyAllowlistedImages", &listed, "reg.example/team/x:1", false);
        check("NeverVerifyAllowlistedImages", &listed, "reg.example/teams/x:1", true);
        let bad = KubeletConfiguration {
            image_pull_credentials_verification_policy: "Perhaps".into(),
            ..Default::default()
        };
        assert!(Records::new(&bad, dir.path()).is_err());
    }
}
