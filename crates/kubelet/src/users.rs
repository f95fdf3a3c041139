//! User namespaces of pods (`hostUsers: false`): which of the node's user and group IDs stand for a pod's.
//!
//! Each pod has a block of IDs of its own, 65536 by default, above those of the node itself or, where there is a user
//! `kubelet` with subordinate IDs, within those. Which block a pod has is written in its directory, so that a restarted
//! kubelet gives none away twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::KubeletConfiguration;
use crate::pod::ext::PodExt;

const FILE: &str = "userns";
const USER: &str = "kubelet";
const LEAST: u32 = 65536;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// What is in a pod's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

/// A pod's block of IDs: of users and of groups alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub first: u32,
    pub length: u32,
}

impl Block {
    pub fn mappings(&self) -> Vec<cri::IdMapping> {
        vec![cri::IdMapping { host_id: self.first, container_id: 0, length: self.length }]
    }
}

pub struct Users {
    pods_dir: PathBuf,
    first: u32,
    length: u32,
    blocks: u32,
    given: Mutex<BTreeMap<String, Block>>,
}

/// The range of subordinate IDs of the user `kubelet`, in a file such as `/etc/subuid`: first and count.
fn subordinate(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().find_map(|line| line.strip_prefix(USER)?.strip_prefix(':'))?;
    let (first, count) = line.split_once(':')?;
    Some((first.trim().parse().ok()?, count.trim().parse().ok()?))
}

impl Users {
    pub fn new(config: &KubeletConfiguration, root: &Path) -> Self {
        let pods_dir = root.join("pods");
        let length =
            u32::try_from(config.user_namespaces.ids_per_pod.unwrap_or(i64::from(LEAST))).unwrap_or(LEAST);
        let length = length.max(LEAST);
        let read = |path: &str| subordinate(&fs::read_to_string(path).unwrap_or_default());
        let (first, count) = match (read("/etc/subuid"), read("/etc/subgid")) {
            // Users and groups get the same numbers.
            (Some(users), Some(groups)) if users == groups => users,
            _ => (LEAST, config.max_pods.saturating_mul(length)),
        };
        // A block is told by its number.
        let first = first.div_ceil(LEAST).saturating_mul(LEAST);
        let mut given = BTreeMap::new();
        for dir in fs::read_dir(&pods_dir).into_iter().flatten().flatten() {
            if let Some(block) = saved(&dir.path()) {
                given.insert(dir.file_name().to_string_lossy().into_owned(), block);
            }
        }
        Self { pods_dir, first, length, blocks: count / length, given: Mutex::new(given) }
    }

    /// The block of a pod that is to have a user namespace; nothing for one that is not.
    pub fn of(&self, pod: &Pod) -> Result<Option<Block>, String> {
        if pod.pod_spec().host_users != Some(false) {
            return Ok(None);
        }
        let mut given = self.given.lock();
        if let Some(block) = given.get(pod.uid()) {
            return Ok(Some(*block));
        }
        let candidates = (0..self.blocks).filter_map(|number| {
            let first = self.first.checked_add(number.checked_mul(self.length)?)?;
            first.checked_add(self.length)?;
            Some(Block { first, length: self.length })
        });
        let overlaps = |block: &Block| {
            let clash = |other: &Block| {
                block.first < other.first + other.length && other.first < block.first + block.length
            };
            given.values().any(clash)
        };
        let block = { candidates }
            .find(|block| !overlaps(block))
            .ok_or("could not find an empty slot to allocate a user namespace")?;
        save(&self.pods_dir.join(pod.uid()), block)?;
        given.insert(pod.uid().to_owned(), block);
        Ok(Some(block))
    }

    /// The pod has ended.
    pub fn release(&self, uid: &str) {
        self.given.lock().remove(uid);
    }
}

fn saved(dir: &Path) -> Option<Block> {
    let saved: Saved = serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()?;
    let mapping = saved.uid_mappings.first()?;
    mapping.host_id.checked_add(mapping.length)?;
    Some(Block { first: mapping.host_id, length: mapping.length })
}

fn save(dir: &Path, block: Block) -> Result<(), String> {
    let mapping = vec![Mapping { host_id: block.first, container_id: 0, length: block.length }];
    let saved = Saved { uid_mappings: mapping.clone(), gid_mappings: mapping };
    let path = dir.join(FILE);
    let text = serde_json::to_string(&saved).map_err(|error| error.to_string())?;
    pki::write_private(&path, &text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, host_users: Option<bool>) -> Pod {
        let spec = json!({"containers": [], "hostUsers": host_users});
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": spec})).unwrap()
    }

    #[test]
    fn each_pod_has_its_own_and_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let config = KubeletConfiguration { max_pods: 2, ..Default::default() };
        let users = Users::new(&config, root.path());
        assert_eq!(users.of(&pod("node", None)), Ok(None));
        let a = users.of(&pod("a", Some(false))).unwrap().unwrap();
        let b = users.of(&pod("b", Some(false))).unwrap().unwrap();
        assert_eq!((a.first % LEAST, a.length), (0, LEAST));
        assert_ne!(a.first, b.first);
        assert!(users.of(&pod("c", Some(false))).is_err(), "there are two");
        let users = Users::new(&config, root.path());
        assert_eq!(users.of(&pod("a", Some(false))), Ok(Some(a)));
        users.release("b");
        assert_eq!(users.of(&pod("c", Some(false))), Ok(Some(b)));
    }

    #[test]
    fn subordinate_ids() {
        assert_eq!(subordinate("root:1:2\nkubelet:65536:131072\n"), Some((65536, 131_072)));
        assert_eq!(subordinate("kubelets:1:2\n"), None);
    }
}
