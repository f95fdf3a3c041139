//! The nodes and what runs on them, kept up to date event by event: nothing is ever counted anew.
//!
//! A pod that was just assigned is counted at once ([`Cluster::add_pod`]), long before the watch tells of it; if
//! binding it fails it is taken out again.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node};

use crate::labels::Labels;
use crate::pod::{HostPort, PodInfo};
use crate::resources::{self, Resources};
use crate::storage::Storage;

/// One node, or (without `node`) the pods of one that is not known yet or any more.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    pub name: String,
    pub node: Option<Arc<Node>>,
    pub allocatable: Resources,
    pub pod_limit: i64,
    pub requested: Resources,
    /// As `requested`, with an assumption for those that request nothing.
    pub scored: Resources,
    pub pods: HashMap<String, Arc<PodInfo>>,
    pub host_ports: Vec<HostPort>,
    /// Sizes of the images that are on the node, by each of their names.
    pub images: HashMap<String, i64>,
    /// Pods here that refuse some neighbours.
    pub with_anti_affinity: usize,
}

impl NodeState {
    pub fn labels(&self) -> Option<&Labels> {
        self.node.as_ref()?.metadata.labels.as_ref()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key).map(String::as_str)
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored);
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.with_anti_affinity += usize::from(!pod.required_anti_affinity().is_empty());
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested.subtract(&pod.requests);
        self.scored.subtract(&pod.scored);
        for port in &pod.host_ports {
            if let Some(at) = self.host_ports.iter().position(|taken| taken == port) {
                self.host_ports.swap_remove(at);
            }
        }
        self.with_anti_affinity -= usize::from(!pod.required_anti_affinity().is_empty());
        Some(pod)
    }

    fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        self.allocatable = Resources::of(allocatable);
        self.pod_limit = resources::pod_limit(allocatable);
        let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        self.images = images
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.clone(), size))
            })
            .collect();
        self.node = Some(node);
    }
}

/// All nodes, in a stable order.
#[derive(Default)]
pub struct Cluster {
    pub nodes: Vec<NodeState>,
    index: HashMap<String, usize>,
    /// Where each pod is counted.
    homes: HashMap<String, String>,
    namespaces: HashMap<String, Labels>,
    pub storage: Storage,
    /// Nodes that have a given image, for `ImageLocality`.
    pub image_spread: HashMap<String, usize>,
}

impl Cluster {
    pub fn live_nodes(&self) -> impl Iterator<Item = &NodeState> {
        self.nodes.iter().filter(|state| state.node.is_some())
    }

    pub fn node(&self, name: &str) -> Option<&NodeState> {
        self.index.get(name).and_then(|at| self.nodes.get(*at))
    }

    pub fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }

    pub fn set_namespace(&mut self, namespace: &Namespace) {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        self.namespaces.insert(name, namespace.metadata.labels.clone().unwrap_or_default());
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let at = self.slot(&name);
        self.count_images(at, false);
        if let Some(state) = self.nodes.get_mut(at) {
            state.set_node(node);
        }
        self.count_images(at, true);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(&at) = self.index.get(name) else { return };
        self.count_images(at, false);
        if let Some(state) = self.nodes.get_mut(at) {
            state.node = None;
            state.images.clear();
        }
        self.drop_if_empty(name);
    }

    /// Counts a pod on a node; one that is counted already is replaced.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>, node: &str) {
        if self.homes.get(&pod.uid).is_some_and(|home| home != node) {
            self.remove_pod(&pod.uid);
        }
        self.homes.insert(pod.uid.clone(), node.to_owned());
        let at = self.slot(node);
        if let Some(state) = self.nodes.get_mut(at) {
            state.add_pod(pod);
        }
    }

    /// Whether the pod was counted.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(home) = self.homes.remove(uid) else { return false };
        if let Some(state) = self.index.get(&home).and_then(|at| self.nodes.get_mut(*at)) {
            state.remove_pod(uid);
        }
        self.drop_if_empty(&home);
        true
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(&at) = self.index.get(name) {
            return at;
        }
        self.nodes.push(NodeState { name: name.to_owned(), ..NodeState::default() });
        let at = self.nodes.len() - 1;
        self.index.insert(name.to_owned(), at);
        at
    }

    fn drop_if_empty(&mut self, name: &str) {
        let Some(&at) = self.index.get(name) else { return };
        let empty = self.nodes.get(at).is_some_and(|state| state.node.is_none() && state.pods.is_empty());
        if empty {
            self.index.remove(name);
            self.nodes.swap_remove(at);
            if let Some(moved) = self.nodes.get(at) {
                self.index.insert(moved.name.clone(), at);
            }
        }
    }

    fn count_images(&mut self, at: usize, add: bool) {
        let Some(state) = self.nodes.get(at) else { return };
        for image in state.images.keys() {
            let count = self.image_spread.entry(image.clone()).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.image_spread.remove(image);
            }
        }
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
        assert_eq!(cluster.image_spread["a:1"], 1);
        cluster.remove_node("n1");
        assert!(cluster.image_spread.is_empty());
        assert!(cluster.remove_pod("a") && cluster.remove_pod("b") && !cluster.remove_pod("b"));
        assert!(cluster.nodes.is_empty() && cluster.index.is_empty() && cluster.homes.is_empty());
    }
}
