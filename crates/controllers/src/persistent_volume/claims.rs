//! Claims: each is bound to a volume that suits it, or handed to a provisioner.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Resource;
use serde_json::json;

use super::{BOUND_BY_CONTROLLER, matching};
use crate::kit::{Controller, Key, SyncError, World, meta};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Set by the scheduler on a claim that waits for the first pod that uses it.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub struct Claims {
    pub world: Arc<World>,
}

impl Controller for Claims {
    const NAME: &'static str = "persistentvolume-controller";
    const QUEUE: &'static str = "claims";
    /// One after the other, so that no two claims are given the same volume.
    const WORKERS: usize = 1;

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(claim) = self.world.persistent_volume_claims.by_key(key) else { return Ok(None) };
        if meta::annotation(&*claim, BIND_COMPLETED).is_some() {
            self.keep_bound(&claim).await?;
        } else if !meta::is_terminating(&*claim) {
            match volume_name(&claim) {
                Some(name) => self.bind_to(&claim, name).await?,
                None => self.choose(claim).await?,
            }
        }
        Ok(None)
    }
}

/// The volume that a claim names.
pub fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

pub fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

/// The class that claims get which ask for none: of several, the one that was made last.
fn default_class(world: &World) -> Option<Arc<StorageClass>> {
    let mut classes = world.storage_classes.list();
    classes.retain(|class| DEFAULT_CLASS.iter().any(|key| meta::annotation(&**class, key) == Some("true")));
    classes.into_iter().max_by(|a, b| {
        let age = |class: &StorageClass| class.metadata.creation_timestamp.clone();
        age(a).cmp(&age(b)).then_with(|| meta::name(&**b).cmp(meta::name(&**a)))
    })
}

impl Claims {
    /// A claim that was bound once: it keeps its volume, or has lost it for good.
    async fn keep_bound(&self, claim: &Arc<PersistentVolumeClaim>) -> Result<(), SyncError> {
        let volume = volume_name(claim).map(|name| self.world.persistent_volumes.get("", name));
        let lost = match volume {
            None => (
                "ClaimLost",
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            ),
            Some(None) => {
                ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
            }
            Some(Some(volume)) => {
                let free = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none());
                if free || matching::refers_to(&volume, claim) {
                    return self.bind(claim, volume).await;
                }
                ("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
            }
        };
        if phase(claim) != Some("Lost") {
            self.world.events.warning(Self::NAME, &**claim, lost.0, lost.1);
        }
        self.tell_phase(claim, "Lost").await
    }

    /// A claim for one volume in particular.
    async fn bind_to(&self, claim: &Arc<PersistentVolumeClaim>, name: &str) -> Result<(), SyncError> {
        let Some(volume) = self.world.persistent_volumes.get("", name) else {
            return self.tell_phase(claim, "Pending").await;
        };
        if volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none()) {
            if let Some(why) = matching::mismatch(claim, &volume) {
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                self.world.events.warning(Self::NAME, &**claim, "VolumeMismatch", message);
                return self.tell_phase(claim, "Pending").await;
            }
        } else if !matching::refers_to(&volume, claim) {
            let message = format!("volume {name:?} already bound to a different claim.");
            self.world.events.warning(Self::NAME, &**claim, "FailedBinding", message);
            return self.tell_phase(claim, "Pending").await;
        }
        self.bind(claim, volume).await
    }

    /// A claim for any volume that suits it.
    async fn choose(&self, mut claim: Arc<PersistentVolumeClaim>) -> Result<(), SyncError> {
        if matching::asked_class(&claim).is_none()
            && let Some(class) = default_class(&self.world)
        {
            // The default has come after the claim.
            let patch = json!({"metadata": {"resourceVersion": claim.metadata.resource_version},
                "spec": {"storageClassName": meta::name(&*class)}});
            claim = self.world.persistent_volume_claims.merge_patch(&Key::of(&*claim), &patch).await?;
        }
        let class = self.world.storage_classes.get("", matching::class_of_claim(&claim));
        let delayed = class
            .as_ref()
            .is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let volumes = self.world.persistent_volumes.list();
        if let Some(volume) = matching::find(&claim, &volumes, delayed) {
            return self.bind(&claim, volume).await;
        }
        let events = &self.world.events;
        if delayed && meta::annotation(&*claim, SELECTED_NODE).is_none() {
            let message = "waiting for first consumer to be created before binding";
            events.normal(Self::NAME, &*claim, "WaitForFirstConsumer", message);
        } else if let Some(class) = class {
            self.ask_provisioner(&claim, &class).await?;
        } else {
            match matching::class_of_claim(&claim) {
                "" => {
                    let message =
                        "no persistent volumes available for this claim and no storage class is set";
                    events.normal(Self::NAME, &*claim, "FailedBinding", message);
                }
                class => {
                    let message = format!("storageclass.storage.k8s.io {class:?} not found");
                    events.warning(Self::NAME, &*claim, "ProvisioningFailed", message);
                }
            }
        }
        self.tell_phase(&claim, "Pending").await
    }

    async fn ask_provisioner(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        class: &StorageClass,
    ) -> Result<(), SyncError> {
        let provisioner = &class.provisioner;
        if provisioner == NO_PROVISIONER {
            return Ok(());
        }
        if meta::annotation(&**claim, PROVISIONER) != Some(provisioner) {
            let patch = json!({"metadata": {"annotations": {PROVISIONER: provisioner, BETA_PROVISIONER: provisioner}}});
            self.world.persistent_volume_claims.merge_patch(&Key::of(&**claim), &patch).await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.world.events.normal(Self::NAME, &**claim, "ExternalProvisioning", message);
        Ok(())
    }

    /// First the volume refers to the claim, then the claim to the volume: a crash in between is completed later.
    async fn bind(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        volume: Arc<PersistentVolume>,
    ) -> Result<(), SyncError> {
        let volume = self.refer_to_claim(claim, volume).await?;
        let mut claim = claim.clone();
        let name = volume.metadata.name.clone();
        if volume_name(&claim) != name.as_deref() || meta::annotation(&*claim, BIND_COMPLETED).is_none() {
            let mut bound = (*claim).clone();
            let annotations = bound.metadata.annotations.get_or_insert_default();
            annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
            if volume_name(&claim).is_none() {
                annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            }
            bound.spec.get_or_insert_default().volume_name = name;
            claim = self.world.persistent_volume_claims.replace(&bound).await?;
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let mut told = (*claim).clone();
        let status = told.status.get_or_insert_default();
        status.access_modes = spec.access_modes;
        // Once bound, what the claim has is told by whoever makes it grow or changes it.
        if status.phase.as_deref() != Some("Bound") {
            status.phase = Some("Bound".to_owned());
            status.capacity = spec.capacity;
            status.current_volume_attributes_class_name = spec.volume_attributes_class_name;
        }
        if told.status != claim.status {
            self.world.persistent_volume_claims.replace_status(&told).await?;
        }
        Ok(())
    }

    async fn refer_to_claim(
        &self,
        claim: &PersistentVolumeClaim,
        volume: Arc<PersistentVolume>,
    ) -> Result<Arc<PersistentVolume>, SyncError> {
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if reference.is_some_and(|reference| reference.uid == claim.metadata.uid) {
            return Ok(volume);
        }
        let mut bound = (*volume).clone();
        if reference.is_none() {
            let annotations = bound.metadata.annotations.get_or_insert_default();
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        bound.spec.get_or_insert_default().claim_ref = Some(claim.object_ref(&()));
        self.world.persistent_volumes.replace(&bound).await
    }

    async fn tell_phase(&self, claim: &Arc<PersistentVolumeClaim>, wanted: &str) -> Result<(), SyncError> {
        let Some(claim) = self.world.persistent_volume_claims.by_key(&Key::of(&**claim)) else {
            return Ok(());
        };
        if phase(&claim) != Some(wanted) {
            let mut told = (*claim).clone();
            told.status.get_or_insert_default().phase = Some(wanted.to_owned());
            self.world.persistent_volume_claims.replace_status(&told).await?;
        }
        Ok(())
    }
}
