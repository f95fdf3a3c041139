//! Which volume suits a claim. Free of IO.

use std::sync::Arc;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::kit::meta;

const STORAGE: &str = "storage";

pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    class.unwrap_or_default()
}

pub fn request(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    Quantity::parse(&resources.requests.as_ref()?.get(STORAGE)?.0).ok()
}

pub fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    Quantity::parse(&volume.spec.as_ref()?.capacity.as_ref()?.get(STORAGE)?.0).ok()
}

/// Whether a volume refers to this claim, by its UID or (reserved by a user) only by its name.
pub fn refers_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| {
        reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && reference
                .uid
                .as_ref()
                .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
    })
}

/// The volume reserved for the claim, or else the smallest free one that suits it.
pub fn find(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
) -> Option<Arc<PersistentVolume>> {
    let reserved = volumes.iter().find(|volume| refers_to(volume, claim));
    if let Some(reserved) = reserved {
        return suits(claim, reserved).then(|| reserved.clone());
    }
    let is_free = |volume: &&Arc<PersistentVolume>| {
        let spec = volume.spec.as_ref();
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        spec.is_some_and(|spec| spec.claim_ref.is_none())
            && phase == Some("Available")
            && !meta::is_terminating(&***volume)
    };
    let free = volumes.iter().filter(is_free).filter(|volume| suits(claim, volume));
    free.min_by(|a, b| capacity(a).cmp(&capacity(b)).then_with(|| meta::name(&***a).cmp(meta::name(&***b))))
        .cloned()
}

fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(wanted), Some(offered)) = (&claim.spec, &volume.spec) else { return false };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let modes = offered.access_modes.as_deref().unwrap_or_default();
    mode(&wanted.volume_mode) == mode(&offered.volume_mode)
        && offered.storage_class_name.as_deref().unwrap_or_default() == class_of_claim(claim)
        && offered.volume_attributes_class_name == wanted.volume_attributes_class_name
        && wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && wanted
            .selector
            .as_ref()
            .is_none_or(|selector| meta::selects(selector, volume.metadata.labels.as_ref()))
        && request(claim).is_none_or(|request| capacity(volume).is_some_and(|capacity| capacity >= request))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, size: &str, more: Value) -> Arc<PersistentVolume> {
        let mut spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}),
            )
            .unwrap(),
        )
    }

    #[test]
    fn the_smallest_volume_that_suits_is_taken() {
        let volumes = [
            volume("big", "10Gi", json!({})),
            volume("fits", "2Gi", json!({})),
            volume("small", "500Mi", json!({})),
            volume("classy", "1Gi", json!({"storageClassName": "fast"})),
            volume("taken", "1Gi", json!({"claimRef": {"name": "other", "namespace": "ns", "uid": "x"}})),
            volume("reserved", "20Gi", json!({"claimRef": {"name": "mine", "namespace": "ns"}})),
            volume("shared", "20Gi", json!({"accessModes": ["ReadWriteMany"]})),
        ];
        let check = |name: &str, more: Value, expected: Option<&str>| {
            let mut spec =
                json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let claim = serde_json::from_value(
                json!({"metadata": {"name": name, "namespace": "ns", "uid": "u"}, "spec": spec}),
            )
            .unwrap();
            assert_eq!(find(&claim, &volumes).as_deref().map(meta::name), expected, "{more}");
        };
        check("a", json!({}), Some("fits"));
        check("a", json!({"storageClassName": "fast"}), Some("classy"));
        check("a", json!({"storageClassName": "none"}), None);
        check("a", json!({"accessModes": ["ReadWriteMany"]}), Some("shared"));
        check("a", json!({"resources": {"requests": {"storage": "1Ti"}}}), None);
        check("a", json!({"volumeMode": "Block"}), None);
        check("mine", json!({}), Some("reserved"));
    }
}
