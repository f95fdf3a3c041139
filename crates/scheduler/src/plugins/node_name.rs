//! Holds a pod to the node that it names itself.

use super::{Local, Refusal};
use crate::cluster::NodeState;
use crate::pod::{self, PodInfo};

pub struct Named(String);

impl Named {
    pub fn new(pod: &PodInfo) -> Option<Self> {
        pod::node_name(&pod.pod).map(|name| Self(name.to_owned()))
    }
}

impl Local for Named {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        if node.name == self.0 {
            return Ok(());
        }
        Err(Refusal::for_good("node(s) didn't match the requested node name"))
    }
}
