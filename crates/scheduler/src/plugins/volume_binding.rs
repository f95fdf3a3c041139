//! Holds a pod to nodes that its volumes can be reached from, or could be made for.

use std::rc::Rc;

use super::{Check, Refusal};
use crate::cluster::NodeState;
use crate::storage::{ClaimState, NoPlan, PodClaim, Storage, is_reachable};

pub struct Claims<'a> {
    storage: &'a Storage,
    claims: Rc<Vec<PodClaim<'a>>>,
}

impl<'a> Claims<'a> {
    pub fn new(storage: &'a Storage, claims: Rc<Vec<PodClaim<'a>>>) -> Self {
        Self { storage, claims }
    }
}

impl Check for Claims<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let mut waiting = Vec::new();
        for claim in self.claims.iter() {
            match &claim.state {
                ClaimState::Bound(volume) if !is_reachable(volume, node) => {
                    return Err(Refusal::for_good("node(s) didn't match PersistentVolume's node affinity"));
                }
                ClaimState::Bound(_) => {}
                ClaimState::Lost => {
                    return Err(Refusal::for_good(
                        "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
                    ));
                }
                ClaimState::Waiting(claim, class) => waiting.push((*claim, *class)),
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        match self.storage.plan(waiting.into_iter(), node) {
            Ok(_) => Ok(()),
            Err(NoPlan::NoVolume) => {
                Err(Refusal::for_good("node(s) didn't find available persistent volumes to bind"))
            }
            Err(NoPlan::NoSpace) => Err(Refusal::for_good("node(s) did not have enough free storage")),
        }
    }
}
