//! Holds a pod to nodes that its volumes can be reached from.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{Check, Events, Plugin, Refusal};
use crate::cluster::{Cluster, NodeState};
use crate::labels;
use crate::pod::PodInfo;
use crate::storage::{ClaimState, claim_names};

pub struct VolumeBinding;

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        let state = |name: String| {
            let state = cluster.storage.state(pod.namespace(), &name);
            (name, state)
        };
        let claims: Vec<_> = claim_names(&pod.pod).map(state).collect();
        (!claims.is_empty()).then(|| Box::new(Claims(claims)) as Box<dyn Check>)
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.or(Events::NODE_LABELS).or(Events::STORAGE)
    }
}

struct Claims<'a>(Vec<(String, ClaimState<'a>)>);

impl Check for Claims<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        for (name, state) in &self.0 {
            match state {
                ClaimState::Missing => {
                    return Err(Refusal::for_good(format!("persistentvolumeclaim \"{name}\" not found")));
                }
                ClaimState::Immediate => {
                    return Err(Refusal::for_good("pod has unbound immediate PersistentVolumeClaims"));
                }
                ClaimState::Bound(volume) if !is_reachable(volume, node) => {
                    return Err(Refusal::for_good("node(s) didn't match PersistentVolume's node affinity"));
                }
                ClaimState::AfterScheduling { candidates, provisioned }
                    if !provisioned && !candidates.iter().any(|volume| is_reachable(volume, node)) =>
                {
                    let reason = "node(s) didn't find available persistent volumes to bind";
                    return Err(Refusal::for_good(reason));
                }
                ClaimState::Bound(_) | ClaimState::AfterScheduling { .. } => {}
            }
        }
        Ok(())
    }
}

fn is_reachable(volume: &PersistentVolume, node: &NodeState) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required
        .is_none_or(|required| node.node.as_ref().is_some_and(|node| labels::selects_node(required, node)))
}
