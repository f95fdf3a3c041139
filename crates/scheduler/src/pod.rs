//! What the scheduler wants to know about a pod, worked out once.

use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::plugins::inter_pod_affinity::Terms;
use crate::resources::{self, Resources};

/// A port of the node that a pod takes: address, protocol, number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

const ANY_ADDRESS: &str = "0.0.0.0";

impl HostPort {
    /// Whether two pods cannot have these on one node.
    pub fn clashes_with(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || self.address == ANY_ADDRESS || other.address == ANY_ADDRESS)
    }
}

#[derive(Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub uid: Arc<str>,
    pub requests: Resources,
    pub scored: Resources,
    pub host_ports: Vec<HostPort>,
    pub priority: i32,
    /// Its affinity to other pods, if it has any.
    pub terms: Option<Box<Terms>>,
    /// What pods that are alike share: see [`crate::classes`].
    pub(crate) key: OnceLock<u128>,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        Self {
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            requests: resources::of_pod(&pod),
            scored: resources::of_pod_for_scoring(&pod),
            host_ports: host_ports(&pod),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            terms: Terms::of(&pod).map(Box::new),
            key: OnceLock::new(),
            pod,
        }
    }

    /// Whether a node with one of them looks to everybody like a node with the other.
    pub fn counts_as(&self, other: &Self) -> bool {
        let volumes = |pod: &Self| pod.spec().and_then(|spec| spec.volumes.clone());
        self.requests == other.requests
            && self.scored == other.scored
            && self.host_ports == other.host_ports
            && self.priority == other.priority
            && self.terms == other.terms
            && self.pod.metadata.labels == other.pod.metadata.labels
            && self.is_terminating() == other.is_terminating()
            && volumes(self) == volumes(other)
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Where room was made for it.
    pub fn nominated_node(&self) -> Option<&str> {
        let node = self.pod.status.as_ref()?.nominated_node_name.as_deref();
        node.filter(|node| !node.is_empty())
    }

    /// Whether it may send less important pods away.
    pub fn may_preempt(&self) -> bool {
        self.spec().and_then(|spec| spec.preemption_policy.as_deref()) != Some("Never")
    }

    /// When it started, as pods of equal importance are compared.
    pub fn started(&self) -> Option<k8s_openapi::jiff::Timestamp> {
        self.pod.status.as_ref()?.start_time.as_ref().map(|time| time.0)
    }

    pub fn scheduler_name(&self) -> &str {
        let asked = self.spec().and_then(|spec| spec.scheduler_name.as_deref());
        asked.filter(|name| !name.is_empty()).unwrap_or("default-scheduler")
    }
}

pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether a pod has run to its end, so that it needs nothing any more.
pub fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod that somebody still holds back.
pub fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|port| *port > 0)?;
        let address = port.host_ip.clone().filter(|address| !address.is_empty());
        Some(HostPort {
            address: address.unwrap_or_else(|| ANY_ADDRESS.to_owned()),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: number,
        })
    });
    taken.collect()
}
