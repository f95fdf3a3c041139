//! Keeps pods apart that want the same port of a node.

use super::{Local, Refusal};
use crate::cluster::NodeState;
use crate::pod::{HostPort, PodInfo};

pub struct Wanted(Vec<HostPort>);

impl Wanted {
    pub fn new(pod: &PodInfo) -> Option<Self> {
        (!pod.host_ports.is_empty()).then(|| Self(pod.host_ports.clone()))
    }
}

impl Local for Wanted {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let clash =
            self.0.iter().any(|wanted| node.host_ports.iter().any(|taken| taken.clashes_with(wanted)));
        if clash {
            return Err(Refusal::new("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}
