//! Which volume suits a claim. Free of IO.

use std::sync::Arc;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::kit::meta;

const STORAGE: &str = "storage";

/// Where classes were told before they had fields of their own; still heeded.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    asked_class(claim).unwrap_or_default()
}

/// The class that a claim asks for; nothing if it leaves that to whatever is the default.
pub fn asked_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    meta::annotation(claim, BETA_CLASS).or(class)
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let class = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    meta::annotation(volume, BETA_CLASS).or(class).unwrap_or_default()
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

/// The volume reserved for the claim, or else (unless a scheduler is to choose) the smallest free one that suits it.
pub fn find(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    scheduler_chooses: bool,
) -> Option<Arc<PersistentVolume>> {
    let usable =
        || volumes.iter().filter(|volume| !meta::is_terminating(&***volume) && is_able(claim, volume));
    if let Some(reserved) = usable().find(|volume| refers_to(volume, claim)) {
        return Some(reserved.clone());
    }
    if scheduler_chooses {
        return None;
    }
    let is_free = |volume: &&Arc<PersistentVolume>| {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none()) && phase == Some("Available")
    };
    let free = usable().filter(is_free).filter(|volume| is_wanted(claim, volume));
    free.min_by(|a, b| capacity(a).cmp(&capacity(b)).then_with(|| meta::name(&***a).cmp(meta::name(&***b))))
        .cloned()
}

/// Why a claim cannot have the volume that it names.
pub fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    if !is_large_enough(claim, volume) {
        Some("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim) {
        Some("storageClassName does not match")
    } else if !has_mode(claim, volume) {
        Some("incompatible volumeMode")
    } else if !has_access(claim, volume) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

/// Whether a volume can serve as the claim needs it, whoever chooses it.
fn is_able(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    has_mode(claim, volume) && has_access(claim, volume) && is_large_enough(claim, volume)
}

/// Whether a volume is of the sort that the claim asks for.
fn is_wanted(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(wanted), Some(offered)) = (&claim.spec, &volume.spec) else { return false };
    class_of_volume(volume) == class_of_claim(claim)
        && offered.volume_attributes_class_name == wanted.volume_attributes_class_name
        && wanted
            .selector
            .as_ref()
            .is_none_or(|selector| meta::selects(selector, volume.metadata.labels.as_ref()))
}

fn has_mode(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    mode(wanted) == mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
}

fn has_access(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let offered = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    let mut wanted = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    wanted.all(|mode| offered.contains(mode))
}

fn is_large_enough(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    request(claim).is_none_or(|request| capacity(volume).is_some_and(|capacity| capacity >= request))
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
            assert_eq!(find(&claim, &volumes, false).as_deref().map(meta::name), expected, "{more}");
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
