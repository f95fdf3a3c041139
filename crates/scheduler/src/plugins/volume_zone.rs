//! Holds a pod to the zone and region that its volumes are labelled with.

use std::rc::Rc;

use super::{Check, Refusal};
use crate::cluster::NodeState;
use crate::storage::{ClaimState, PodClaim, zones};

pub struct Zones<'a>(pub Rc<Vec<PodClaim<'a>>>);

impl Check for Zones<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let elsewhere =
            |claim: &PodClaim<'_>| matches!(&claim.state, ClaimState::Bound(volume) if !zones(volume, node));
        if self.0.iter().any(elsewhere) {
            return Err(Refusal::for_good("node(s) had no available volume zone"));
        }
        Ok(())
    }
}
