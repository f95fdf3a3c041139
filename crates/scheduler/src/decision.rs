//! What the core says is to be done, and what it needs to hear of those whom it asks.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::resource::v1::AllocationResult;

use crate::decide::preemption::Victims;
use crate::devices::Extended;
use crate::plugins::PluginSet;
use crate::pod::PodInfo;
use crate::queue::Waiting;
use crate::storage::{Key, Plan};

/// What is to be done about a pod.
#[derive(Debug)]
pub enum Decision {
    Bind(Assignment),
    Refused(Failure),
    /// Extenders have a say: these nodes fit, with what speaks for each.
    Consult {
        waiting: Waiting,
        nodes: Vec<(String, i64)>,
    },
}

impl Decision {
    /// Whose pod it is about.
    pub const fn profile(&self) -> usize {
        match self {
            Self::Bind(assignment) => assignment.waiting.profile,
            Self::Refused(failure) => failure.profile,
            Self::Consult { waiting, .. } => waiting.profile,
        }
    }
}

/// A pod and its node.
#[derive(Debug)]
pub struct Assignment {
    pub waiting: Waiting,
    pub node: String,
    pub plan: Plan,
    pub devices: Reservation,
}

/// Claims for devices that the pod uses, and what those that had nothing yet are given.
#[derive(Clone, Debug, Default)]
pub struct Reservation {
    pub claims: Vec<Key>,
    pub allocations: HashMap<Key, AllocationResult>,
    /// A claim that is yet to be made, for extended resources.
    pub extended: Option<Box<(Extended, AllocationResult)>>,
}

impl Reservation {
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.extended.is_none()
    }
}

/// A pod that fits nowhere now. It is back in the queue.
#[derive(Debug)]
pub struct Failure {
    pub pod: Arc<PodInfo>,
    pub profile: usize,
    pub message: String,
    pub refused_by: PluginSet,
    /// Where less important pods could make room, best first.
    pub candidates: Vec<Victims>,
    /// Room was kept for it in vain.
    pub no_longer_nominated: bool,
    /// A claim that was made for it and is in the way.
    pub left_over: Option<Key>,
}

/// What extenders made of the nodes.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Those left, with what speaks for each.
    pub nodes: Vec<(String, i64)>,
    /// Those refused, why, and whether the node could fit if other pods went.
    pub refused: Vec<(String, String, bool)>,
}
