//! What makes a node fit, and one better than another: a file for each plugin, named as upstream names it.
//!
//! A plugin looks at a pod once ([`Plugin::prepare`]) and, if it has anything to say about it, gives a [`Check`]
//! that is then asked about each node.

mod balanced_allocation;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod pod_topology_spread;
mod taint_toleration;
mod volume_binding;

pub use taint_toleration::tolerates;

use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;

/// The best score that a plugin gives a node.
pub const MAX_SCORE: i64 = 100;

/// What can happen in a cluster that lets a pod fit that did not fit before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Events(u8);

impl Events {
    pub const NONE: Self = Self(0);
    pub const NODE_ADDED: Self = Self(1);
    pub const NODE_RESOURCES: Self = Self(2);
    pub const NODE_LABELS: Self = Self(4);
    pub const NODE_TAINTS: Self = Self(8);
    /// A pod has gone, or has got smaller.
    pub const POD_REMOVED: Self = Self(16);
    pub const POD_ADDED: Self = Self(32);
    /// A claim, a volume or a storage class.
    pub const STORAGE: Self = Self(64);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Why a node does not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub reasons: Vec<String>,
    /// Whether the node could fit if other pods went.
    pub preemption_helps: bool,
}

impl Refusal {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], preemption_helps: true }
    }

    /// Whatever other pods do, this node does not fit.
    pub fn for_good(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], preemption_helps: false }
    }
}

pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Nothing if the pod makes no difference to this plugin.
    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster) -> Option<Box<dyn Check + 'a>>;

    /// After which events a pod that this plugin refused is worth another try.
    fn helped_by(&self) -> Events;

    fn weight(&self) -> i64 {
        1
    }
}

/// A plugin's view of one pod.
pub trait Check {
    fn filter(&self, _node: &NodeState) -> Result<(), Refusal> {
        Ok(())
    }

    /// Whether [`Check::score`] means anything.
    fn scores(&self) -> bool {
        false
    }

    fn score(&self, _node: &NodeState) -> i64 {
        0
    }

    /// Brings the scores of all fitting nodes between 0 and [`MAX_SCORE`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// The plugins of upstream's default profile, cheap and decisive ones first.
pub fn default_plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(node_unschedulable::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources_fit::NodeResourcesFit),
        Box::new(volume_binding::VolumeBinding),
        Box::new(pod_topology_spread::PodTopologySpread),
        Box::new(inter_pod_affinity::InterPodAffinity),
        Box::new(balanced_allocation::NodeResourcesBalancedAllocation),
        Box::new(image_locality::ImageLocality),
    ]
}

/// Scales so that the best node gets [`MAX_SCORE`]; `reverse` when less is better.
fn normalize_to_max(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most == 0 { 0 } else { *score * MAX_SCORE / most };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
