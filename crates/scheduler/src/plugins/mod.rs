//! What makes a node fit, and one better than another: a file for each plugin, named as upstream names it.
//!
//! A plugin's part that looks at one node at a time ([`Local`]) is made once for all pods that are alike in what it
//! looks at, and asked again only about nodes that have changed ([`crate::classes`]). Plugins that look at several
//! nodes at once (spreading, affinity between pods) are kept as counts by [`crate::classes::cross`]. Plugins that
//! look at objects of the one pod (claims) are asked for each pod anew ([`Check`]).

mod balanced_allocation;
mod dynamic_resources;
mod image_locality;
pub mod inter_pod_affinity;
mod name;
mod node_affinity;
mod node_declared_features;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
pub mod pod_topology_spread;
mod taint_toleration;
mod volume_binding;
mod volume_limits;
mod volume_restrictions;
mod volume_zone;

pub use balanced_allocation::Balance;
pub use dynamic_resources::Promised;
pub use image_locality::Images;
pub use name::{PluginId, PluginSet};
pub use node_affinity::Picky;
pub use node_declared_features::{Needed, needed};
pub use node_name::Named;
pub use node_ports::Wanted;
pub use node_resources_fit::Fit;
pub use node_unschedulable::Unschedulable;
pub use taint_toleration::{Tolerant, tolerates};
pub use volume_binding::Claims;
pub use volume_limits::Limits;
pub use volume_restrictions::{Conflict, Disks};
pub use volume_zone::Zones;

use std::borrow::Cow;

use crate::cluster::NodeState;

/// The best score that a plugin gives a node.
pub const MAX_SCORE: i64 = 100;

/// Why a node does not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether the node could fit if other pods went.
    pub preemption_helps: bool,
}

impl Refusal {
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], preemption_helps: true }
    }

    /// Whatever other pods do, this node does not fit.
    pub fn for_good(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], preemption_helps: false }
    }
}

/// Judges one node by what is known of it and of the pod.
pub trait Local: Send + Sync {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal>;
}

/// Judges one node by objects that belong to the pod.
pub trait Check {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal>;

    /// Whether [`Check::score`] means anything.
    fn scores(&self) -> bool {
        false
    }

    fn score(&self, _node: &NodeState) -> i64 {
        0
    }
}
