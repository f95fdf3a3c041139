//! The scheduler's judgement, for others who have to come to the same one: a DaemonSet's pods run where these say.

use k8s_openapi::api::core::v1::{Node, NodeSelector, PodSpec, Taint, Toleration};

use crate::{labels, plugins};

/// Whether one of the tolerations stands the taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    plugins::tolerates(tolerations, taint)
}

/// Whether the node selector and the required node affinity of a pod pick the node.
pub fn selects_node(spec: &PodSpec, node: &Node) -> bool {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    labels::contains_all(spec.node_selector.as_ref(), node.metadata.labels.as_ref())
        && required.is_none_or(|required| labels::selects_node(required, node))
}

/// Whether one of the terms of a node selector picks the node.
pub fn matches_node(selector: &NodeSelector, node: &Node) -> bool {
    labels::selects_node(selector, node)
}
