//! Holds a pod to nodes that its node selector and required node affinity pick, and prefers those that its
//! preferred affinity picks. A profile may add an affinity of its own to all its pods.

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, PodSpec};

use super::{Local, Refusal};
use crate::cluster::NodeState;
use crate::pod::PodInfo;
use crate::{fit, labels};

pub struct Picky {
    /// Of the pod; nothing of it looks at anything but nodes.
    spec: Option<PodSpec>,
    added: Option<Affinity>,
}

impl Picky {
    /// Nothing if any node will do.
    pub fn new(pod: &PodInfo, added: Option<&Affinity>) -> Option<Self> {
        let wanted = pod.spec().filter(|spec| {
            affinity(spec).is_some()
                || spec.node_selector.as_ref().is_some_and(|selector| !selector.is_empty())
        });
        if wanted.is_none() && added.is_none() {
            return None;
        }
        let spec = wanted.map(|spec| PodSpec {
            node_selector: spec.node_selector.clone(),
            affinity: spec.affinity.as_ref().map(|affinity| k8s_openapi::api::core::v1::Affinity {
                node_affinity: affinity.node_affinity.clone(),
                ..Default::default()
            }),
            ..Default::default()
        });
        Some(Self { spec, added: added.cloned() })
    }

    /// Whether the pod itself (whatever the profile adds) picks the node.
    pub fn picks(&self, node: &NodeState) -> bool {
        let Some(spec) = &self.spec else { return true };
        node.node.as_ref().is_some_and(|node| fit::selects_node(spec, node))
    }

    /// The only nodes that can be picked, if the pod names them: a DaemonSet's pods do.
    pub fn only(&self) -> Option<Vec<String>> {
        let affinity = self.spec.as_ref().and_then(affinity)?;
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
        let mut names = Vec::new();
        for term in &required.node_selector_terms {
            let mut fields = term.match_fields.iter().flatten();
            let named = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
            names.extend(named.values.iter().flatten().cloned());
        }
        Some(names)
    }

    pub fn prefers(&self) -> bool {
        self.preferred().next().is_some()
    }

    /// The weights of the preferences that pick the node.
    pub fn preference(&self, node: &NodeState) -> i64 {
        let Some(object) = &node.node else { return 0 };
        let picked = self.preferred().filter(|term| labels::term_selects_node(&term.preference, object));
        picked.map(|term| i64::from(term.weight)).sum()
    }

    fn preferred(&self) -> impl Iterator<Item = &k8s_openapi::api::core::v1::PreferredSchedulingTerm> {
        let own = self.spec.as_ref().and_then(affinity);
        let all = self.added.iter().chain(own);
        all.flat_map(|affinity| {
            affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten()
        })
        .filter(|term| term.weight != 0)
    }
}

fn affinity(spec: &PodSpec) -> Option<&Affinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

impl Local for Picky {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let added = self.added.as_ref();
        let added =
            added.and_then(|added| added.required_during_scheduling_ignored_during_execution.as_ref());
        let enforced = added
            .is_none_or(|added| node.node.as_ref().is_some_and(|node| labels::selects_node(added, node)));
        if !enforced {
            return Err(Refusal::for_good("node(s) didn't match scheduler-enforced node affinity"));
        }
        if !self.picks(node) {
            return Err(Refusal::for_good("node(s) didn't match Pod's node affinity/selector"));
        }
        Ok(())
    }
}
