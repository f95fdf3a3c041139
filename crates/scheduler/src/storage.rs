//! Claims, volumes and storage classes, as far as they tie pods to nodes.

use std::collections::HashMap;
use std::sync::Arc;

use client::Delta;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

#[derive(Default)]
pub struct Storage {
    claims: HashMap<(String, String), Arc<PersistentVolumeClaim>>,
    volumes: HashMap<String, Arc<PersistentVolume>>,
    classes: HashMap<String, Arc<StorageClass>>,
}

/// How far a claim is.
pub enum ClaimState<'a> {
    Missing,
    Bound(&'a PersistentVolume),
    /// It will be bound soon, wherever its pod goes.
    Immediate,
    /// It is bound once its pod has a node: to one of these, or (provisioned) to a new one.
    AfterScheduling {
        candidates: Vec<&'a PersistentVolume>,
        provisioned: bool,
    },
}

impl Storage {
    pub fn claim_changed(&mut self, delta: &Delta<PersistentVolumeClaim>) {
        let key = |claim: &PersistentVolumeClaim| {
            let meta = &claim.metadata;
            (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
        };
        match delta {
            Delta::Added(claim) | Delta::Updated { new: claim, .. } => {
                self.claims.insert(key(claim), claim.clone());
            }
            Delta::Deleted(claim) => drop(self.claims.remove(&key(claim))),
            Delta::Synced => {}
        }
    }

    pub fn volume_changed(&mut self, delta: &Delta<PersistentVolume>) {
        match delta {
            Delta::Added(volume) | Delta::Updated { new: volume, .. } => {
                self.volumes.insert(volume.metadata.name.clone().unwrap_or_default(), volume.clone());
            }
            Delta::Deleted(volume) => {
                self.volumes.remove(volume.metadata.name.as_deref().unwrap_or_default());
            }
            Delta::Synced => {}
        }
    }

    pub fn class_changed(&mut self, delta: &Delta<StorageClass>) {
        match delta {
            Delta::Added(class) | Delta::Updated { new: class, .. } => {
                self.classes.insert(class.metadata.name.clone().unwrap_or_default(), class.clone());
            }
            Delta::Deleted(class) => {
                self.classes.remove(class.metadata.name.as_deref().unwrap_or_default());
            }
            Delta::Synced => {}
        }
    }

    pub fn state(&self, namespace: &str, name: &str) -> ClaimState<'_> {
        let Some(claim) = self.claims.get(&(namespace.to_owned(), name.to_owned())) else {
            return ClaimState::Missing;
        };
        let spec = claim.spec.as_ref();
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        let volume = spec.and_then(|spec| spec.volume_name.as_ref()).and_then(|name| self.volumes.get(name));
        if let Some(volume) = volume.filter(|_| phase == Some("Bound")) {
            return ClaimState::Bound(volume);
        }
        let class_name = spec.and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
        let class = self.classes.get(class_name);
        match class {
            Some(class) if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") => {
                ClaimState::AfterScheduling {
                    candidates: self.free_volumes(class_name),
                    provisioned: class.provisioner != NO_PROVISIONER,
                }
            }
            _ => ClaimState::Immediate,
        }
    }

    fn free_volumes(&self, class: &str) -> Vec<&PersistentVolume> {
        let of_class = |volume: &&Arc<PersistentVolume>| {
            let spec = volume.spec.as_ref();
            let free = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
            free && spec.and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default() == class
        };
        self.volumes.values().filter(of_class).map(|volume| &**volume).collect()
    }

    /// The claims of a pod that wait for its node.
    pub fn waiting_claims(&self, pod: &Pod) -> Vec<String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let waits = |name: &String| matches!(self.state(namespace, name), ClaimState::AfterScheduling { .. });
        claim_names(pod).filter(waits).collect()
    }
}

/// The claims that a pod uses, those made for it included.
pub fn claim_names(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => {
            Some(format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name))
        }
        (None, None) => None,
    })
}
