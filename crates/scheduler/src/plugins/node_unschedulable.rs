//! Keeps pods off cordoned nodes, unless they tolerate it.

use super::taint_toleration::tolerates;
use super::{Check, Events, Plugin, Refusal};
use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;
use k8s_openapi::api::core::v1::Taint;

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        };
        let tolerated = pod.spec().is_some_and(|spec| tolerates(spec.tolerations.as_deref(), &taint));
        (!tolerated).then(|| Box::new(Uncordoned) as Box<dyn Check>)
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.or(Events::NODE_TAINTS)
    }
}

struct Uncordoned;

impl Check for Uncordoned {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let spec = node.node.as_ref().and_then(|node| node.spec.as_ref());
        if spec.and_then(|spec| spec.unschedulable) == Some(true) {
            return Err(Refusal::for_good("node(s) were unschedulable"));
        }
        Ok(())
    }
}
