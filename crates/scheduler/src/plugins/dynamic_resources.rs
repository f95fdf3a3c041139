//! Holds a pod to nodes that have the devices that it claims.

use k8s_openapi::api::resource::v1::{DeviceRequestAllocationResult, ResourceClaim};

use super::{Check, MAX_SCORE, Refusal};
use crate::cluster::NodeState;
use crate::devices::{Devices, PodClaims};

/// The API server lets in no more for a request.
const ALTERNATIVES: i64 = 8;

/// Requests that leave a choice, with the names of what they would have, best first.
fn alternatives(claim: &ResourceClaim) -> impl Iterator<Item = (&str, impl Iterator<Item = &str> + Clone)> {
    let requests = claim.spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten());
    requests.filter_map(|request| {
        let names = request.first_available.as_ref()?.iter().map(|alternative| alternative.name.as_str());
        Some((request.name.as_str(), names))
    })
}

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
        let extended = self.claims.extended_on(node);
        let waiting: Vec<_> = self.claims.wanted(extended.as_ref()).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        // What a pod that goes gives back is not known before it has gone: sending it away helps nobody yet.
        self.devices.allocate(&waiting, node).map(drop).map_err(Refusal::for_good)
    }

    fn scores(&self) -> bool {
        self.claims.waiting.iter().any(|(_, claim)| alternatives(claim).next().is_some())
    }

    /// The better, the earlier the alternatives come that a claim would be given there.
    fn score(&self, node: &NodeState) -> i64 {
        let extended = self.claims.extended_on(node);
        let waiting: Vec<_> = self.claims.wanted(extended.as_ref()).collect();
        let Ok(found) = self.devices.allocate(&waiting, node) else { return 0 };
        let (mut sum, mut most) = (0, 0);
        for (claim, allocation) in waiting.iter().zip(&found) {
            let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
            for (request, names) in alternatives(claim) {
                let given = |result: &DeviceRequestAllocationResult| {
                    let name = result.request.strip_prefix(request)?.strip_prefix('/')?;
                    names.clone().position(|known| known == name)
                };
                let at = results.clone().find_map(given).and_then(|at| i64::try_from(at).ok());
                sum += at.map_or(0, |at| (ALTERNATIVES - at).max(0));
                most += ALTERNATIVES;
            }
        }
        if most == 0 { 0 } else { MAX_SCORE * sum / most }
    }
}
