//! Claims, volumes and what stores them, as far as they tie pods to nodes.
//!
//! A volume that a pod is about to be bound to counts as taken at once ([`Storage::assume`]), long before the watch
//! tells so. [`plan`] finds out what a pod's claims would need on a node.

mod plan;
mod volume;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use client::Delta;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use kube::Resource;

pub use plan::{NoPlan, Plan};
pub use volume::{is_reachable, zones};

pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Namespace and name.
pub type Key = (String, String);

#[derive(Default)]
pub struct Storage {
    claims: HashMap<Key, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: HashMap<String, Arc<StorageClass>>,
    csi_nodes: HashMap<String, Arc<CSINode>>,
    drivers: HashMap<String, Arc<CSIDriver>>,
    capacities: HashMap<Key, Arc<CSIStorageCapacity>>,
    /// Volumes that pods are being bound to, by name, and for which claim.
    assumed: HashMap<String, Key>,
}

/// How far a claim is.
pub enum ClaimState<'a> {
    Bound(&'a PersistentVolume),
    /// Bound, but to a volume that is not there.
    Lost,
    /// It is bound once its pod has a node.
    Waiting(&'a PersistentVolumeClaim, &'a StorageClass),
}

/// A pod's claim.
pub struct PodClaim<'a> {
    pub name: String,
    pub state: ClaimState<'a>,
}

fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn change<K: Resource>(objects: &mut HashMap<Key, Arc<K>>, delta: &Delta<K>) {
    match delta {
        Delta::Added(object) | Delta::Updated { new: object, .. } => {
            objects.insert(key_of(&**object), object.clone());
        }
        Delta::Deleted(object) => drop(objects.remove(&key_of(&**object))),
        Delta::Synced => {}
    }
}

fn change_named<K: Resource>(objects: &mut HashMap<String, Arc<K>>, delta: &Delta<K>) {
    match delta {
        Delta::Added(object) | Delta::Updated { new: object, .. } => {
            objects.insert(key_of(&**object).1, object.clone());
        }
        Delta::Deleted(object) => drop(objects.remove(&key_of(&**object).1)),
        Delta::Synced => {}
    }
}

impl Storage {
    pub fn claim_changed(&mut self, delta: &Delta<PersistentVolumeClaim>) {
        change(&mut self.claims, delta);
    }

    pub fn volume_changed(&mut self, delta: &Delta<PersistentVolume>) {
        match delta {
            Delta::Added(volume) | Delta::Updated { new: volume, .. } => {
                let name = key_of(&**volume).1;
                // What was assumed has come true, or another was faster.
                if volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some()) {
                    self.assumed.remove(&name);
                }
                self.volumes.insert(name, volume.clone());
            }
            Delta::Deleted(volume) => drop(self.volumes.remove(&key_of(&**volume).1)),
            Delta::Synced => {}
        }
    }

    pub fn class_changed(&mut self, delta: &Delta<StorageClass>) {
        change_named(&mut self.classes, delta);
    }

    pub fn csi_node_changed(&mut self, delta: &Delta<CSINode>) {
        change_named(&mut self.csi_nodes, delta);
    }

    pub fn driver_changed(&mut self, delta: &Delta<CSIDriver>) {
        change_named(&mut self.drivers, delta);
    }

    pub fn capacity_changed(&mut self, delta: &Delta<CSIStorageCapacity>) {
        change(&mut self.capacities, delta);
    }

    /// Volumes of the plan are taken.
    pub fn assume(&mut self, plan: &Plan) {
        self.assumed.extend(plan.bindings.iter().map(|(volume, claim)| (volume.clone(), claim.clone())));
    }

    pub fn forget(&mut self, plan: &Plan) {
        for (volume, claim) in &plan.bindings {
            if self.assumed.get(volume) == Some(claim) {
                self.assumed.remove(volume);
            }
        }
    }

    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.get(name)
    }

    fn class_of(&self, claim: &PersistentVolumeClaim) -> Option<&StorageClass> {
        let name = claim.spec.as_ref()?.storage_class_name.as_deref()?;
        self.classes.get(name).map(|class| &**class)
    }

    /// A pod's claims, or why it can go nowhere.
    pub fn claims_of(&self, pod: &Pod) -> Result<Vec<PodClaim<'_>>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut found = Vec::new();
        for (name, ephemeral) in claims(pod) {
            let Some(claim) = self.claim(namespace, &name) else {
                return Err(if ephemeral {
                    format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                    )
                } else {
                    format!("persistentvolumeclaim \"{name}\" not found")
                });
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            let owned = claim.metadata.owner_references.iter().flatten();
            if ephemeral && !owned.into_iter().any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref()) {
                let pod = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(format!(
                    "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
                ));
            }
            let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            if phase(claim) == Some("Lost") {
                return Err(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                ));
            }
            let state = if is_bound(claim) {
                self.volumes.get(volume).map_or(ClaimState::Lost, |volume| ClaimState::Bound(volume))
            } else {
                match self.class_of(claim).filter(|class| volume.is_empty() && waits(class)) {
                    Some(class) => ClaimState::Waiting(claim, class),
                    None => return Err("pod has unbound immediate PersistentVolumeClaims".to_owned()),
                }
            };
            found.push(PodClaim { name, state });
        }
        Ok(found)
    }

    /// Whether every one of the claims is bound. Nothing is ever bound if one is gone.
    pub fn all_bound(&self, claims: &[Key]) -> Result<bool, String> {
        for key in claims {
            let Some(claim) = self.claims.get(key) else {
                return Err(format!("persistentvolumeclaim \"{}\" not found", key.1));
            };
            if !is_bound(claim) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The most volumes of a driver that can be attached to a node, if there is a limit.
    pub fn limit(&self, node: &str, driver: &str) -> Option<usize> {
        let node = self.csi_nodes.get(node)?;
        let driver = node.spec.drivers.iter().find(|candidate| candidate.name == driver)?;
        let count = driver.allocatable.as_ref()?.count?;
        usize::try_from(count).ok()
    }

    /// Driver and handle of the volume behind a claim, or what stands for one that is still to be made.
    pub fn attached(&self, namespace: &str, name: &str) -> Option<(String, String)> {
        let claim = self.claim(namespace, name)?;
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        if let Some(volume) = bound.and_then(|name| self.volumes.get(name)) {
            let csi = volume.spec.as_ref()?.csi.as_ref()?;
            return Some((csi.driver.clone(), csi.volume_handle.clone()));
        }
        let class = self.class_of(claim)?;
        Some((class.provisioner.clone(), format!("{}/{namespace}/{name}", class.provisioner)))
    }
}

fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    let completed = claim
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key("pv.kubernetes.io/bind-completed"));
    !named.is_empty() && (completed || phase(claim) == Some("Bound"))
}

fn waits(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The claims that a pod uses, and whether each is made for it.
fn claims(pod: &Pod) -> impl Iterator<Item = (String, bool)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some((claim.claim_name.clone(), false)),
        (None, Some(_)) => {
            Some((format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name), true))
        }
        (None, None) => None,
    })
}

pub fn claim_names(pod: &Pod) -> impl Iterator<Item = String> {
    claims(pod).map(|(name, _)| name)
}
