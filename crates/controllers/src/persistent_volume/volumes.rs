//! Volumes: each tells whether it is free, bound, or left behind by a claim that has gone.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{BOUND_BY_CONTROLLER, claims};
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

/// Who has made a volume, and so deletes it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

pub struct Volumes {
    pub world: Arc<World>,
    pub claims: Queue,
}

/// How a volume stands to the claim that it refers to.
#[derive(Debug, PartialEq)]
enum Standing {
    Free,
    Bound,
    /// The claim has not chosen yet.
    Chosen,
    /// The claim has another volume.
    Spurned,
    Released,
}

fn standing(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Standing {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    // Without a UID it is reserved, for a claim that may come.
    let Some(uid) = reference.and_then(|reference| reference.uid.as_ref()).filter(|uid| !uid.is_empty())
    else {
        return Standing::Free;
    };
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_ref() == Some(uid)) else {
        return Standing::Released;
    };
    match claims::volume_name(claim) {
        None => Standing::Chosen,
        name if name == volume.metadata.name.as_deref() => Standing::Bound,
        Some(_) => Standing::Spurned,
    }
}

impl Controller for Volumes {
    const NAME: &'static str = "persistentvolume-controller";
    const QUEUE: &'static str = "volumes";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(volume) = self.world.persistent_volumes.by_key(key) else { return Ok(None) };
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
        let claim = Key::new(reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
        let found = self.world.persistent_volume_claims.by_key(&claim);
        match standing(&volume, found.as_deref()) {
            Standing::Free => self.tell(&volume, "Available", None).await?,
            Standing::Bound => self.tell(&volume, "Bound", None).await?,
            Standing::Chosen => self.claims.add(claim),
            Standing::Spurned => self.take_back(&volume).await?,
            Standing::Released => self.release(&volume).await?,
        }
        Ok(None)
    }
}

impl Volumes {
    /// The claim is gone. What becomes of the data is up to the reclaim policy.
    async fn release(&self, volume: &Arc<PersistentVolume>) -> Result<(), SyncError> {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Failed") {
            return Ok(());
        }
        let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        let name = meta::name(&**volume);
        let problem = match policy {
            Some("Delete") if meta::annotation(&**volume, PROVISIONED_BY).is_none() => Some((
                "VolumeFailedDelete",
                format!(
                    "error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"
                ),
            )),
            Some("Recycle") => {
                Some(("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()))
            }
            _ => None,
        };
        let Some((reason, message)) = problem else {
            return self.tell(volume, "Released", None).await;
        };
        self.world.events.warning(Self::NAME, &**volume, reason, message.clone());
        self.tell(volume, "Failed", Some(message)).await
    }

    /// The claim has chosen another volume: this one is free again, or reserved as its user has left it.
    async fn take_back(&self, volume: &Arc<PersistentVolume>) -> Result<(), SyncError> {
        let deletes = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
            == Some("Delete");
        if deletes && meta::annotation(&**volume, PROVISIONED_BY).is_some() {
            return self.release(volume).await;
        }
        let mut free = (**volume).clone();
        let by_controller =
            free.metadata.annotations.as_mut().and_then(|all| all.remove(BOUND_BY_CONTROLLER)).is_some();
        if let Some(spec) = &mut free.spec {
            if by_controller {
                spec.claim_ref = None;
            } else if let Some(reference) = &mut spec.claim_ref {
                reference.uid = None;
            }
        }
        let free = self.world.persistent_volumes.replace(&free).await?;
        self.tell(&free, "Available", None).await
    }

    async fn tell(
        &self,
        volume: &Arc<PersistentVolume>,
        phase: &str,
        message: Option<String>,
    ) -> Result<(), SyncError> {
        if volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase) {
            return Ok(());
        }
        let mut told = (**volume).clone();
        let status = told.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.message = message;
        status.last_phase_transition_time = Some(meta::now());
        self.world.persistent_volumes.replace_status(&told).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_volume_stands_by_its_claim() {
        let check = |reference: Value, claim: Option<(&str, &str)>, expected: Standing| {
            let volume =
                serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": {"claimRef": reference}}));
            let claim = claim.map(|(uid, volume)| {
                let claim = json!({"metadata": {"name": "c", "uid": uid}, "spec": {"volumeName": volume}});
                serde_json::from_value::<PersistentVolumeClaim>(claim).unwrap()
            });
            assert_eq!(standing(&volume.unwrap(), claim.as_ref()), expected, "{reference}");
        };
        let by_uid = || json!({"name": "c", "namespace": "ns", "uid": "u"});
        check(json!(null), None, Standing::Free);
        check(json!({"name": "c", "namespace": "ns"}), Some(("u", "")), Standing::Free);
        check(by_uid(), None, Standing::Released);
        check(by_uid(), Some(("other", "v")), Standing::Released);
        check(by_uid(), Some(("u", "")), Standing::Chosen);
        check(by_uid(), Some(("u", "v")), Standing::Bound);
        check(by_uid(), Some(("u", "w")), Standing::Spurned);
    }
}
