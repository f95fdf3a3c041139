//! Holds a pod to the node that its spec names.

use super::{Check, Events, Plugin, Refusal};
use crate::cluster::{Cluster, NodeState};
use crate::pod::{self, PodInfo};

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        let name = pod::node_name(&pod.pod)?;
        Some(Box::new(Named(name)))
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED
    }
}

struct Named<'a>(&'a str);

impl Check for Named<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        if node.name == self.0 {
            Ok(())
        } else {
            Err(Refusal::for_good("node(s) didn't match the requested node name"))
        }
    }
}
