//! Holds a pod to nodes that its node selector and required node affinity pick, and prefers those that its
//! preferred affinity picks.

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, PodSpec};

use super::{Check, Events, Plugin, Refusal, normalize_to_max};
use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;
use crate::{fit, labels};

pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        let spec = pod.spec()?;
        let asks = affinity(spec).is_some()
            || spec.node_selector.as_ref().is_some_and(|selector| !selector.is_empty());
        asks.then(|| Box::new(Picky(spec)) as Box<dyn Check>)
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.or(Events::NODE_LABELS)
    }

    fn weight(&self) -> i64 {
        2
    }
}

fn affinity(spec: &PodSpec) -> Option<&Affinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

/// Whether the node selector and the required affinity of a pod pick a node.
pub fn picks(spec: &PodSpec, node: &NodeState) -> bool {
    node.node.as_ref().is_some_and(|node| fit::selects_node(spec, node))
}

struct Picky<'a>(&'a PodSpec);

impl Check for Picky<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        if picks(self.0, node) {
            Ok(())
        } else {
            Err(Refusal::for_good("node(s) didn't match Pod's node affinity/selector"))
        }
    }

    fn scores(&self) -> bool {
        let preferred = affinity(self.0)
            .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
        preferred.is_some_and(|preferred| !preferred.is_empty())
    }

    fn score(&self, node: &NodeState) -> i64 {
        let Some(object) = &node.node else { return 0 };
        let preferred = affinity(self.0)
            .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
        let picked = preferred
            .into_iter()
            .flatten()
            .filter(|term| labels::term_selects_node(&term.preference, object));
        picked.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_max(scores, false);
    }
}
