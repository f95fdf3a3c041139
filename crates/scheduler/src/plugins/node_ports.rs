//! Keeps pods apart that want the same port of a node.

use super::{Check, Events, Plugin, Refusal};
use crate::cluster::{Cluster, NodeState};
use crate::pod::{HostPort, PodInfo};

pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        (!pod.host_ports.is_empty()).then(|| Box::new(Wanted(&pod.host_ports)) as Box<dyn Check>)
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.or(Events::POD_REMOVED)
    }
}

struct Wanted<'a>(&'a [HostPort]);

impl Check for Wanted<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let clash =
            self.0.iter().any(|wanted| node.host_ports.iter().any(|taken| taken.clashes_with(wanted)));
        if clash {
            return Err(Refusal::new("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}
