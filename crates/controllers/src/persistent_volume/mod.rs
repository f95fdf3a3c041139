//! Binds claims to volumes that exist, and tells the phases of both. Provisioning new volumes is the business of
//! external provisioners, which are told by the annotation that they look for.

mod matching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Resource;
use serde_json::json;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// Set by the scheduler on a claim that waits for the first pod that uses it.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let claims = Queue::default();
    let volumes = Queue::default();
    let (due, other) = (claims.clone(), volumes.clone());
    world.persistent_volume_claims.on(move |change| {
        let Some(claim) = change.object() else { return };
        if change.new.is_some() {
            due.add(Key::of(&**claim));
        }
        if let Some(volume) = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()) {
            other.add(Key::cluster(volume));
        }
    });
    let (due, other, seen) = (volumes.clone(), claims.clone(), world.clone());
    world.persistent_volumes.on(move |change| {
        let Some(volume) = change.object() else { return };
        if change.new.is_some() {
            due.add(Key::of(&**volume));
        }
        match volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
            Some(claim) => other.add(Key::new(
                claim.namespace.clone().unwrap_or_default(),
                claim.name.clone().unwrap_or_default(),
            )),
            None => {
                // A free volume may suit any claim that waits.
                for claim in seen.persistent_volume_claims.list().iter().filter(|claim| !is_bound(claim)) {
                    other.add(Key::of(&**claim));
                }
            }
        }
    });
    loops.add(Claims { world: world.clone() }, claims);
    loops.add(Volumes { world: world.clone() }, volumes);
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim_phase(claim) == Some("Bound")
}

fn claim_phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

struct Claims {
    world: Arc<World>,
}

impl Controller for Claims {
    const NAME: &'static str = "persistentvolume-controller";
    /// One after the other, so that no two claims are given the same volume.
    const WORKERS: usize = 1;

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(claim) = self.world.persistent_volume_claims.by_key(key) else { return Ok(None) };
        if meta::is_terminating(&*claim) {
            return Ok(None);
        }
        let named =
            claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
        let volume = match named {
            Some(name) => self.world.persistent_volumes.get("", name).filter(|volume| {
                let free = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none());
                free || matching::refers_to(volume, &claim)
            }),
            None if self.waits_for_consumer(&claim) => {
                let message = "waiting for first consumer to be created before binding";
                self.world.events.normal(Self::NAME, &*claim, "WaitForFirstConsumer", message);
                None
            }
            None => matching::find(&claim, &self.reachable(&claim)),
        };
        match volume {
            Some(volume) => self.bind(&claim, volume).await?,
            None if meta::annotation(&*claim, BIND_COMPLETED).is_some() => {
                self.tell_phase(&claim, "Lost").await?
            }
            None => {
                self.ask_provisioner(&claim).await?;
                self.tell_phase(&claim, "Pending").await?;
            }
        }
        Ok(None)
    }
}

impl Claims {
    fn class(&self, claim: &PersistentVolumeClaim) -> Option<Arc<StorageClass>> {
        self.world.storage_classes.get("", matching::class_of_claim(claim))
    }

    fn waits_for_consumer(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = self.class(claim);
        let waits =
            class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        waits && meta::annotation(claim, SELECTED_NODE).is_none()
    }

    /// The volumes that can be reached from the node that the claim is needed on, if that is known.
    fn reachable(&self, claim: &PersistentVolumeClaim) -> Vec<Arc<PersistentVolume>> {
        let mut volumes = self.world.persistent_volumes.list();
        let node = meta::annotation(claim, SELECTED_NODE).and_then(|node| self.world.nodes.get("", node));
        if let Some(node) = node {
            volumes.retain(|volume| {
                let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
                let required = affinity.and_then(|affinity| affinity.required.as_ref());
                required.is_none_or(|required| scheduler::fit::matches_node(required, &node))
            });
        }
        volumes
    }

    /// First the volume refers to the claim, then the claim to the volume: a crash in between is completed later.
    async fn bind(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        volume: Arc<PersistentVolume>,
    ) -> Result<(), SyncError> {
        let mut volume = volume;
        let uid =
            volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|claim| claim.uid.clone());
        if uid != claim.metadata.uid {
            let mut bound = (*volume).clone();
            bound.spec.get_or_insert_default().claim_ref = Some(claim.object_ref(&()));
            bound
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            volume = self.world.persistent_volumes.replace(&bound).await?;
        }
        let mut claim = claim.clone();
        let name = volume.metadata.name.clone();
        if claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()) != name
            || meta::annotation(&*claim, BIND_COMPLETED).is_none()
        {
            let mut bound = (*claim).clone();
            let annotations = bound.metadata.annotations.get_or_insert_default();
            annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
            if bound.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()).is_none() {
                annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            }
            bound.spec.get_or_insert_default().volume_name = name;
            claim = self.world.persistent_volume_claims.replace(&bound).await?;
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let mut told = (*claim).clone();
        let status = told.status.get_or_insert_default();
        status.phase = Some("Bound".to_owned());
        status.access_modes = spec.access_modes;
        status.capacity = spec.capacity;
        if told.status != claim.status {
            self.world.persistent_volume_claims.replace_status(&told).await?;
        }
        Ok(())
    }

    async fn ask_provisioner(&self, claim: &Arc<PersistentVolumeClaim>) -> Result<(), SyncError> {
        let provisioner =
            self.class(claim).map(|class| class.provisioner.clone()).filter(|name| name != NO_PROVISIONER);
        let Some(provisioner) = provisioner.filter(|_| !self.waits_for_consumer(claim)) else {
            if matching::class_of_claim(claim).is_empty() {
                let message = "no persistent volumes available for this claim and no storage class is set";
                self.world.events.normal(Self::NAME, &**claim, "FailedBinding", message);
            }
            return Ok(());
        };
        if meta::annotation(&**claim, PROVISIONER) != Some(&provisioner) {
            let annotations = BTreeMap::from([(PROVISIONER, &provisioner)]);
            let patch = json!({"metadata": {"annotations": annotations}});
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

    async fn tell_phase(&self, claim: &Arc<PersistentVolumeClaim>, phase: &str) -> Result<(), SyncError> {
        let Some(claim) = self.world.persistent_volume_claims.by_key(&Key::of(&**claim)) else {
            return Ok(());
        };
        if claim_phase(&claim) != Some(phase) {
            let mut told = (*claim).clone();
            told.status.get_or_insert_default().phase = Some(phase.to_owned());
            self.world.persistent_volume_claims.replace_status(&told).await?;
        }
        Ok(())
    }
}

struct Volumes {
    world: Arc<World>,
}

impl Controller for Volumes {
    const NAME: &'static str = "persistentvolume-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(volume) = self.world.persistent_volumes.by_key(key) else { return Ok(None) };
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
        let phase = match reference {
            None => "Available",
            Some(reference) => {
                let (namespace, name) =
                    (reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
                let claim = self.world.persistent_volume_claims.get(&namespace, &name);
                match (reference.uid, claim) {
                    // Reserved by a user for a claim that may come.
                    (None, _) => "Available",
                    (Some(uid), Some(claim)) if claim.metadata.uid.as_deref() == Some(&uid) => "Bound",
                    (Some(_), _) => "Released",
                }
            }
        };
        if volume.status.as_ref().and_then(|status| status.phase.as_deref()) != Some(phase) {
            let mut told = (*volume).clone();
            let status = told.status.get_or_insert_default();
            status.phase = Some(phase.to_owned());
            status.last_phase_transition_time = Some(meta::now());
            self.world.persistent_volumes.replace_status(&told).await?;
        }
        Ok(None)
    }
}
