//! A pod's claims for devices, and how far each is.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};

use super::{Backed, Devices, Extended, allocation};
use crate::cluster::NodeState;
use crate::labels;
use crate::storage::Key;

/// The API server lets in no more.
const MOST_CONSUMERS: usize = 256;

/// What a pod has been promised, and what is still to be found for it.
#[derive(Default)]
pub struct PodClaims<'a> {
    pub all: Vec<Key>,
    allocated: Vec<&'a AllocationResult>,
    pub waiting: Vec<(Key, &'a ResourceClaim)>,
    /// What is claimed for it where there is no device plugin.
    backed: Backed,
}

pub fn has_claims(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .is_some_and(|spec| spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()))
}

/// Whether a claim that is made for the pod is still to be made: until then nothing can be decided.
pub fn awaits_claims(pod: &Pod) -> bool {
    let made = |name: &str| {
        let made = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
        made.into_iter().any(|made| made.name == name)
    };
    let mut wanted = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    wanted.any(|wanted| wanted.resource_claim_name.is_none() && !made(&wanted.name))
}

impl Devices {
    /// A pod's claims, or why it can go nowhere.
    pub fn claims_of(&self, pod: &Pod, backed: Backed) -> Result<PodClaims<'_>, String> {
        if let Some((_, name)) = self.left_over(pod) {
            return Err(format!("resourceclaim \"{name}\" of an earlier attempt is still being removed"));
        }
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let mut claims = PodClaims { backed, ..PodClaims::default() };
        for wanted in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
            let from_template = wanted.resource_claim_name.is_none();
            let made = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
            let made = made.into_iter().find(|made| made.name == wanted.name);
            let name = match (&wanted.resource_claim_name, made) {
                (Some(name), _) => name.clone(),
                (None, Some(made)) => match &made.resource_claim_name {
                    Some(name) => name.clone(),
                    // It turned out that none is needed.
                    None => continue,
                },
                (None, None) => {
                    return Err(format!(
                        "waiting for the resource claim of \"{}\" to be created",
                        wanted.name
                    ));
                }
            };
            let key = (namespace.clone(), name);
            let Some(claim) = self.claims.get(&key) else {
                return Err(format!("resourceclaim \"{}\" not found", key.1));
            };
            self.check(claim, &key, pod, from_template)?;
            match allocation(claim) {
                Some(allocation) => claims.allocated.push(allocation),
                None => claims.waiting.push((key.clone(), claim)),
            }
            claims.all.push(key);
        }
        for (_, claim) in &claims.waiting {
            self.requests(claim)?;
        }
        Ok(claims)
    }

    fn check(&self, claim: &ResourceClaim, key: &Key, pod: &Pod, from_template: bool) -> Result<(), String> {
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("resourceclaim \"{}\" is being deleted", key.1));
        }
        let mut owners = claim.metadata.owner_references.iter().flatten();
        if from_template && !owners.any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref()) {
            return Err(format!(
                "resourceclaim \"{}\" was not created for the pod (pod is not owner)",
                key.1
            ));
        }
        if self.assumed.contains_key(key) {
            return Err(format!("resourceclaim \"{}\": allocation is in progress", key.1));
        }
        let users = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
        let reserved = users.clone().any(|user| Some(&user.uid) == pod.metadata.uid.as_ref());
        if !reserved && users.count() >= MOST_CONSUMERS {
            return Err(format!("resourceclaim \"{}\" is in use by too many pods", key.1));
        }
        Ok(())
    }
}

impl PodClaims<'_> {
    /// The claim for extended resources that the pod needs on the node.
    pub fn extended_on(&self, node: &NodeState) -> Option<Extended> {
        self.backed.on(node)
    }

    /// The claims to allocate, that one last.
    pub fn wanted<'a>(&'a self, extended: Option<&'a Extended>) -> impl Iterator<Item = &'a ResourceClaim> {
        self.waiting.iter().map(|(_, claim)| *claim).chain(extended.map(|extended| &extended.claim))
    }

    /// Whether what is promised already can be used on the node.
    pub fn are_reachable_from(&self, node: &NodeState) -> bool {
        let Some(object) = &node.node else { return false };
        let reaches = |allocation: &&AllocationResult, node: &Node| {
            allocation.node_selector.as_ref().is_none_or(|selector| labels::selects_node(selector, node))
        };
        self.allocated.iter().all(|allocation| reaches(allocation, object))
    }
}
