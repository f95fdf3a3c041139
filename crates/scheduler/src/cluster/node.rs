//! One node and what runs on it.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::labels::Labels;
use crate::pod::{HostPort, PodInfo};
use crate::resources::{self, Resources};

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
    pub pods: HashMap<Arc<str>, Arc<PodInfo>, ahash::RandomState>,
    /// Those of `pods` that have affinity terms.
    pub with_terms: Vec<Arc<PodInfo>>,
    pub host_ports: Vec<HostPort>,
    /// Sizes of the images that are on the node, by each of their names.
    pub images: Arc<HashMap<String, i64>>,
    /// When this last changed, in the cluster's count of changes.
    pub version: u64,
}

impl NodeState {
    pub fn labels(&self) -> Option<&Labels> {
        self.node.as_ref()?.metadata.labels.as_ref()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key).map(String::as_str)
    }

    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    pub fn is_unschedulable(&self) -> bool {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.is_some_and(|spec| spec.unschedulable == Some(true))
    }

    /// Counts a pod; one that is counted already is replaced.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored);
        self.host_ports.extend(pod.host_ports.iter().cloned());
        if pod.terms.is_some() {
            self.with_terms.push(pod.clone());
        }
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
        if pod.terms.is_some() {
            self.with_terms.retain(|other| other.uid != pod.uid);
        }
        Some(pod)
    }

    /// Takes in the object. Whether images have come or gone.
    pub(super) fn set_node(&mut self, node: Arc<Node>) -> bool {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        self.allocatable = Resources::of(allocatable);
        self.pod_limit = resources::pod_limit(allocatable);
        let images = |node: &Node| node.status.as_ref().and_then(|status| status.images.clone());
        let same = self.node.as_ref().is_some_and(|old| images(old) == images(&node));
        if !same {
            let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
            let sizes = images.flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.clone(), size))
            });
            self.images = Arc::new(sizes.collect());
        }
        self.node = Some(node);
        !same
    }
}
