//! What a pod's unbound claims would be bound to on a node.

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{Key, SELECTED_NODE, Storage, is_reachable, key_of};
use crate::cluster::NodeState;
use crate::labels::selects;

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What binding a pod to a node entails for its claims.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Volumes that there are, and the claims that they are for.
    pub bindings: Vec<(String, Key)>,
    /// Claims for which a volume is made near the node.
    pub provisions: Vec<Key>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }

    pub fn claims(&self) -> Vec<Key> {
        self.bindings.iter().map(|(_, claim)| claim).chain(&self.provisions).cloned().collect()
    }
}

#[derive(Debug, PartialEq)]
pub enum NoPlan {
    NoVolume,
    NoSpace,
}

impl Storage {
    /// The smallest free volumes within the node's reach, and new ones where there are none.
    pub fn plan<'a>(
        &self,
        waiting: impl Iterator<Item = (&'a PersistentVolumeClaim, &'a StorageClass)>,
        node: &NodeState,
    ) -> Result<Plan, NoPlan> {
        let mut plan = Plan::default();
        let mut waiting: Vec<_> = waiting.collect();
        // The smallest claims first, so that they do not take what only fits larger ones.
        waiting.sort_by_key(|(claim, _)| request(claim).map_or(0, |amount| amount.value()));
        for (claim, class) in waiting {
            let annotations = claim.metadata.annotations.as_ref();
            let selected = annotations.and_then(|annotations| annotations.get(SELECTED_NODE));
            if let Some(selected) = selected {
                // Its volume is being made already, there and nowhere else.
                if *selected != node.name {
                    return Err(NoPlan::NoVolume);
                }
            } else if let Some(volume) = self.smallest(claim, node, &plan) {
                plan.bindings.push((volume, key_of(claim)));
                continue;
            }
            if class.provisioner == NO_PROVISIONER || !is_allowed(class, node) {
                return Err(NoPlan::NoVolume);
            }
            if !self.has_space(claim, class, node) {
                return Err(NoPlan::NoSpace);
            }
            plan.provisions.push(key_of(claim));
        }
        Ok(plan)
    }

    fn smallest(&self, claim: &PersistentVolumeClaim, node: &NodeState, plan: &Plan) -> Option<String> {
        let key = key_of(claim);
        let free = self.volumes.iter().filter(|(name, volume)| {
            suits(claim, volume)
                && self.assumed.get(*name).is_none_or(|other| *other == key)
                && plan.bindings.iter().all(|(taken, _)| taken != *name)
                && is_reachable(volume, node)
        });
        let size = |volume: &PersistentVolume| capacity(volume).map_or(i64::MAX, |amount| amount.value());
        // One that was reserved for the claim goes before any other.
        free.min_by_key(|(_, volume)| (!is_reserved(volume), size(volume))).map(|(name, _)| name.clone())
    }

    /// Whether the driver has told of enough space within the node's reach, if it tells at all.
    fn has_space(&self, claim: &PersistentVolumeClaim, class: &StorageClass, node: &NodeState) -> bool {
        let tells = self
            .drivers
            .get(&class.provisioner)
            .is_some_and(|driver| driver.spec.storage_capacity == Some(true));
        let Some(wanted) = request(claim).filter(|_| tells) else { return true };
        self.capacities.values().any(|space| {
            let largest = space.maximum_volume_size.as_ref().or(space.capacity.as_ref());
            let largest = largest.and_then(|amount| Quantity::parse(&amount.0).ok());
            Some(space.storage_class_name.as_str()) == class.metadata.name.as_deref()
                && selects(space.node_topology.as_ref(), node.labels())
                && largest.is_some_and(|largest| largest >= wanted)
        })
    }
}

fn request(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Quantity::parse(&requests.get("storage")?.0).ok()
}

fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    Quantity::parse(&volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0).ok()
}

fn is_reserved(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some())
}

/// Whether a volume is free for the claim and such as the claim asks for.
fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(wanted), Some(offered)) = (&claim.spec, &volume.spec) else { return false };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let free = match &offered.claim_ref {
        None => phase == Some("Available"),
        Some(reference) => {
            reference.name == claim.metadata.name
                && reference.namespace == claim.metadata.namespace
                && reference
                    .uid
                    .as_ref()
                    .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
        }
    };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let modes = |modes: &Option<Vec<String>>| modes.clone().unwrap_or_default();
    let offered_modes = modes(&offered.access_modes);
    free && volume.metadata.deletion_timestamp.is_none()
        && offered.storage_class_name.as_deref().unwrap_or_default()
            == wanted.storage_class_name.as_deref().unwrap_or_default()
        && offered.volume_attributes_class_name.as_deref().unwrap_or_default()
            == wanted.volume_attributes_class_name.as_deref().unwrap_or_default()
        && mode(&offered.volume_mode) == mode(&wanted.volume_mode)
        && modes(&wanted.access_modes).iter().all(|mode| offered_modes.contains(mode))
        && wanted
            .selector
            .as_ref()
            .is_none_or(|selector| selects(Some(selector), volume.metadata.labels.as_ref()))
        && match (request(claim), capacity(volume)) {
            (Some(wanted), Some(offered)) => offered >= wanted,
            (wanted, _) => wanted.is_none(),
        }
}

/// Whether volumes of the class can be made near the node.
fn is_allowed(class: &StorageClass, node: &NodeState) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty()
        || terms.iter().any(|term| {
            term.match_label_expressions.iter().flatten().all(|expression| {
                node.label(&expression.key)
                    .is_some_and(|value| expression.values.iter().any(|allowed| allowed == value))
            })
        })
}
