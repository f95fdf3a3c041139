//! Which claims are prepared, for which pods, kept in a file: drivers must be told of the end of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint;

const FILE: &str = "dra_manager_state";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// The requests of the claim that it serves.
    pub requests: Vec<String>,
    pub pool: String,
    pub device: String,
    pub cdi_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Prepared {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// UIDs of those that use it.
    pub pods: BTreeSet<String>,
    pub drivers: BTreeMap<String, Vec<Device>>,
    /// All drivers are done.
    pub ready: bool,
}

#[derive(Debug, Default)]
pub struct State {
    path: PathBuf,
    claims: Vec<Prepared>,
}

impl State {
    pub fn read(root: &Path) -> Self {
        let path = root.join(FILE);
        let claims = checkpoint::read(&path, "which claims are prepared");
        Self { path, claims }
    }

    fn save(&self) -> Result<(), String> {
        checkpoint::write(&self.path, &self.claims)
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&Prepared> {
        self.claims.iter().find(|claim| claim.namespace == namespace && claim.name == name)
    }

    /// Notes that a pod uses a claim; false when the claim is not prepared yet.
    pub fn add_pod(&mut self, namespace: &str, name: &str, pod: &str) -> Result<bool, String> {
        let is = |claim: &&mut Prepared| claim.namespace == namespace && claim.name == name && claim.ready;
        let Some(claim) = self.claims.iter_mut().find(is) else { return Ok(false) };
        if claim.pods.insert(pod.to_owned()) {
            self.save()?;
        }
        Ok(true)
    }

    pub fn put(&mut self, prepared: Prepared) -> Result<(), String> {
        self.claims.retain(|claim| claim.uid != prepared.uid);
        self.claims.push(prepared);
        self.save()
    }

    pub fn pods(&self) -> BTreeSet<String> {
        self.claims.iter().flat_map(|claim| claim.pods.iter().cloned()).collect()
    }

    pub fn of_pod(&self, pod: &str) -> Vec<Prepared> {
        self.claims.iter().filter(|claim| claim.pods.contains(pod)).cloned().collect()
    }

    /// The pod does not use the claim any more; with its last one the claim is forgotten.
    pub fn remove_pod(&mut self, claim: &str, pod: &str) -> Result<(), String> {
        for known in self.claims.iter_mut().filter(|known| known.uid == claim) {
            known.pods.remove(pod);
        }
        self.claims.retain(|known| !known.pods.is_empty());
        self.save()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_is_remembered_until_its_last_pod_ends() {
        let root = tempfile::tempdir().unwrap();
        let mut state = State::read(root.path());
        assert_eq!(state.add_pod("n", "c", "p1"), Ok(false));
        let prepared = Prepared {
            namespace: "n".into(),
            name: "c".into(),
            uid: "u".into(),
            pods: ["p1".to_owned()].into(),
            ready: true,
            ..Default::default()
        };
        state.put(prepared).unwrap();
        let mut state = State::read(root.path());
        assert_eq!(state.add_pod("n", "c", "p2"), Ok(true));
        state.remove_pod("u", "p1").unwrap();
        assert_eq!(state.of_pod("p2").len(), 1);
        state.remove_pod("u", "p2").unwrap();
        assert!(State::read(root.path()).get("n", "c").is_none());
    }
}
