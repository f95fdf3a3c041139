//! Holds a pod to nodes that have the devices that it claims.

use super::{Check, Refusal};
use crate::cluster::NodeState;
use crate::devices::{Devices, PodClaims};

pub struct Promised<'a> {
    devices: &'a Devices,
    claims: PodClaims<'a>,
}

impl<'a> Promised<'a> {
    pub fn new(devices: &'a Devices, claims: PodClaims<'a>) -> Self {
        Self { devices, claims }
    }
}

impl Check for Promised<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        if !self.claims.are_reachable_from(node) {
            return Err(Refusal::for_good("resourceclaim not available on the node"));
        }
        if self.claims.waiting.is_empty() {
            return Ok(());
        }
        let waiting: Vec<_> = self.claims.waiting.iter().map(|(_, claim)| *claim).collect();
        // What a pod that goes gives back is not known before it has gone: sending it away helps nobody yet.
        self.devices.allocate(&waiting, node).map(drop).map_err(Refusal::for_good)
    }
}
