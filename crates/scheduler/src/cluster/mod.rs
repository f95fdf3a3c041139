//! The nodes and what runs on them, kept up to date event by event: nothing is ever counted anew.
//!
//! A pod that was just assigned is counted at once ([`Cluster::add_pod`]), long before the watch tells of it; if
//! binding it fails it is taken out again. Every change of a node is written to a log, by which those who keep
//! something worked out per node ([`crate::classes`]) know what to work out again.

mod log;
mod node;
mod workloads;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node};

pub use log::{Changed, Log, Missed};
pub use node::NodeState;
pub use workloads::Workloads;

use crate::devices::Devices;
use crate::plugins::inter_pod_affinity::Namespaces;
use crate::pod::PodInfo;
use crate::storage::{self, Storage};

/// Where a node is kept, as long as there is such a node; then the place is another's.
pub type Slot = usize;

#[derive(Default)]
pub struct Cluster {
    /// By slot; free ones have no name.
    pub nodes: Vec<NodeState>,
    free: Vec<Slot>,
    index: HashMap<String, Slot, ahash::RandomState>,
    /// Nodes that exist.
    pub live: usize,
    pub log: Log,
    /// Where each pod is counted.
    homes: HashMap<Arc<str>, Slot, ahash::RandomState>,
    pub namespaces: Namespaces,
    /// Counts changes of `namespaces`.
    pub namespaces_version: u64,
    /// Pods whose terms select namespaces by label.
    pub selecting_namespaces: usize,
    /// Label keys that terms of the pods here look at, and how many of them.
    pub term_keys: BTreeMap<String, usize>,
    /// Pods here that have affinity terms.
    pub with_terms: usize,
    pub storage: Storage,
    pub devices: Devices,
    pub workloads: Workloads,
    /// How many pods here use each claim, by namespace and name.
    pub claim_users: HashMap<(String, String), usize>,
    /// Nodes that have a given image, for `ImageLocality`.
    pub image_spread: HashMap<String, usize>,
}

impl Cluster {
    pub fn live_nodes(&self) -> impl Iterator<Item = (Slot, &NodeState)> {
        self.nodes.iter().enumerate().filter(|(_, state)| state.node.is_some())
    }

    pub fn slot_of(&self, name: &str) -> Option<Slot> {
        self.index.get(name).copied()
    }

    pub fn node(&self, name: &str) -> Option<&NodeState> {
        self.slot_of(name).and_then(|at| self.nodes.get(at))
    }

    /// How many pods have a node.
    pub fn pods(&self) -> usize {
        self.homes.len()
    }

    /// The pod as it is counted, and where.
    pub fn pod(&self, uid: &str) -> Option<(&Arc<PodInfo>, Slot)> {
        let slot = *self.homes.get(uid)?;
        Some((self.nodes.get(slot)?.pods.get(uid)?, slot))
    }

    pub fn set_namespace(&mut self, namespace: &Namespace) {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        if self.namespaces.get(&name) != Some(&labels) {
            self.namespaces.insert(name, labels);
            self.namespaces_version += 1;
        }
    }

    pub fn remove_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.namespaces_version += 1;
        }
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let at = self.slot(&name);
        let Some(state) = self.nodes.get_mut(at) else { return };
        let old_images = state.images.clone();
        self.live += usize::from(state.node.is_none());
        if state.set_node(node) {
            let new_images = state.images.clone();
            self.count_images(&old_images, false);
            self.count_images(&new_images, true);
        }
        self.touch(at, Changed::Node);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.slot_of(name) else { return };
        if let Some(state) = self.nodes.get_mut(at)
            && state.node.take().is_some()
        {
            let images = std::mem::take(&mut state.images);
            self.live -= 1;
            self.count_images(&images, false);
            self.touch(at, Changed::Node);
            self.drop_if_empty(at);
        }
    }

    /// Counts a pod on a node; one that is counted already is replaced.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        let at = self.slot(node);
        self.homes.insert(pod.uid.clone(), at);
        self.count_terms(&pod, true);
        self.count_claims(&pod, true);
        if let Some(state) = self.nodes.get_mut(at) {
            state.add_pod(pod.clone());
        }
        self.touch(at, Changed::PodAdded(pod));
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.homes.remove(uid)?;
        let pod = self.nodes.get_mut(at)?.remove_pod(uid)?;
        self.count_terms(&pod, false);
        self.count_claims(&pod, false);
        self.touch(at, Changed::PodRemoved(pod.clone()));
        self.drop_if_empty(at);
        Some(pod)
    }

    /// A pod that is counted has changed in a way that makes no difference to any judgement.
    pub fn refresh_pod(&mut self, pod: Arc<PodInfo>) {
        let Some(state) = self.homes.get(&pod.uid).and_then(|at| self.nodes.get_mut(*at)) else { return };
        if pod.terms.is_some() {
            state.with_terms.retain(|other| other.uid != pod.uid);
            state.with_terms.push(pod.clone());
        }
        state.pods.insert(pod.uid.clone(), pod);
    }

    fn touch(&mut self, at: Slot, changed: Changed) {
        let version = self.log.push(at, changed);
        if let Some(state) = self.nodes.get_mut(at) {
            state.version = version;
        }
    }

    fn slot(&mut self, name: &str) -> Slot {
        if let Some(&at) = self.index.get(name) {
            return at;
        }
        let state = NodeState { name: name.to_owned(), ..NodeState::default() };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.nodes.push(NodeState::default());
                self.log.grow(self.nodes.len());
                self.nodes.len() - 1
            }
        };
        if let Some(place) = self.nodes.get_mut(at) {
            *place = state;
        }
        self.index.insert(name.to_owned(), at);
        at
    }

    fn drop_if_empty(&mut self, at: Slot) {
        let Some(state) = self.nodes.get_mut(at) else { return };
        if state.node.is_none() && state.pods.is_empty() && !state.name.is_empty() {
            self.index.remove(&std::mem::take(&mut state.name));
            *state = NodeState { version: state.version, ..NodeState::default() };
            self.free.push(at);
        }
    }

    fn count_images(&mut self, images: &HashMap<String, i64>, add: bool) {
        for image in images.keys() {
            count(&mut self.image_spread, image, add);
        }
    }

    fn count_claims(&mut self, pod: &PodInfo, add: bool) {
        for name in storage::claim_names(&pod.pod) {
            count(&mut self.claim_users, &(pod.namespace().to_owned(), name), add);
        }
    }

    fn count_terms(&mut self, pod: &PodInfo, add: bool) {
        let Some(terms) = &pod.terms else { return };
        let change = |n: usize, by: bool| if add { n + usize::from(by) } else { n - usize::from(by) };
        self.with_terms = change(self.with_terms, true);
        self.selecting_namespaces = change(self.selecting_namespaces, terms.looks_at_namespaces());
        for key in terms.all().flat_map(|term| term.label_keys()) {
            match self.term_keys.get_mut(key) {
                Some(n) if !add && *n <= 1 => drop(self.term_keys.remove(key)),
                Some(n) => *n = change(*n, true),
                None => drop(self.term_keys.insert(key.to_owned(), 1)),
            }
        }
    }
}

fn count<K: Clone + Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K, add: bool) {
    match counts.get_mut(key) {
        Some(n) if add => *n += 1,
        Some(n) if *n > 1 => *n -= 1,
        Some(_) => drop(counts.remove(key)),
        None if add => drop(counts.insert(key.clone(), 1)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, cpu: &str) -> Arc<PodInfo> {
        let value = json!({"metadata": {"uid": uid}, "spec": {"containers": [{"name": "c",
            "resources": {"requests": {"cpu": cpu}}, "ports": [{"containerPort": 1, "hostPort": 80}]}]}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(value).unwrap())))
    }

    fn node(name: &str) -> Arc<Node> {
        let value = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": "10"},
            "images": [{"names": ["a:1", "a@sha256:x"], "sizeBytes": 5}]}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn counts_follow_pods_whatever_the_order() {
        let mut cluster = Cluster::default();
        cluster.add_pod(pod("a", "1"), "n1");
        assert_eq!(cluster.live_nodes().count(), 0, "only pods are known of it");
        cluster.set_node(node("n1"));
        cluster.add_pod(pod("a", "2"), "n1");
        cluster.add_pod(pod("b", "1"), "n1");
        let requested =
            |cluster: &Cluster, name: &str| cluster.node(name).map(|node| node.requested.milli_cpu);
        assert_eq!(requested(&cluster, "n1"), Some(3000));
        cluster.add_pod(pod("b", "1"), "n2");
        assert_eq!((requested(&cluster, "n1"), requested(&cluster, "n2")), (Some(2000), Some(1000)));
        assert_eq!(cluster.node("n1").unwrap().host_ports.len(), 1);
        assert_eq!((cluster.image_spread["a:1"], cluster.live), (1, 1));
        cluster.remove_node("n1");
        assert!(cluster.image_spread.is_empty());
        assert!(cluster.remove_pod("a").is_some() && cluster.remove_pod("b").is_some());
        assert!(cluster.remove_pod("b").is_none());
        assert!(cluster.index.is_empty() && cluster.homes.is_empty());
        assert_eq!((cluster.free.len(), cluster.live), (2, 0));
    }
}
