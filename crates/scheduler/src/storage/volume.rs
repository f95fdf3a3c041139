//! Where a volume can be reached from.

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::cluster::NodeState;
use crate::labels;

/// Labels of volumes that say where they are, and of nodes that say the same.
const ZONES: [(&str, &str); 4] = [
    ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
];

pub fn is_reachable(volume: &PersistentVolume, node: &NodeState) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required
        .is_none_or(|required| node.node.as_ref().is_some_and(|node| labels::selects_node(required, node)))
}

/// Whether the zone and region that a volume is labelled with are the node's. A node without any is anywhere.
pub fn zones(volume: &PersistentVolume, node: &NodeState) -> bool {
    if ZONES.iter().all(|(key, _)| node.label(key).is_none()) {
        return true;
    }
    let labels = volume.metadata.labels.iter().flatten();
    labels.into_iter().all(|(key, values)| {
        let Some((key, other)) = ZONES.iter().find(|(known, _)| known == key) else { return true };
        let here = node.label(key).or_else(|| node.label(other));
        // A volume in several zones is labelled with all of them.
        here.is_some_and(|here| values.split("__").any(|value| value == here))
    })
}
