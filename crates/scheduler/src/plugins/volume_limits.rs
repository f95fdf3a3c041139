//! Keeps the volumes of each storage driver on a node within what the driver can attach there.

use std::collections::{HashMap, HashSet};

use super::{Check, Refusal};
use crate::cluster::NodeState;
use crate::pod::PodInfo;
use crate::storage::{Storage, claim_names};

pub struct Limits<'a> {
    storage: &'a Storage,
    /// Handles of the pod's volumes, by driver.
    wanted: HashMap<String, HashSet<String>>,
}

impl<'a> Limits<'a> {
    pub fn new(pod: &PodInfo, storage: &'a Storage) -> Option<Self> {
        let wanted = volumes(pod, storage);
        (!wanted.is_empty()).then_some(Self { storage, wanted })
    }
}

fn volumes(pod: &PodInfo, storage: &Storage) -> HashMap<String, HashSet<String>> {
    let mut volumes: HashMap<String, HashSet<String>> = HashMap::new();
    for name in claim_names(&pod.pod) {
        if let Some((driver, handle)) = storage.attached(pod.namespace(), &name) {
            volumes.entry(driver).or_default().insert(handle);
        }
    }
    volumes
}

impl Check for Limits<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        for (driver, wanted) in &self.wanted {
            let Some(limit) = self.storage.limit(&node.name, driver) else { continue };
            let mut attached = HashSet::new();
            for pod in node.pods.values() {
                attached.extend(volumes(pod, self.storage).remove(driver).into_iter().flatten());
            }
            let new = wanted.difference(&attached).count();
            if new > 0 && attached.len() + new > limit {
                return Err(Refusal::new("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }
}
