//! Growing a volume's file system on the node, after its claim has asked for more and the driver's controller has
//! given it.

use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, SecretReference};
use kube::Api;
use kube::api::{Patch, PatchParams};
use plugins::csi::node_service_capability::rpc::Type as Can;
use plugins::csi::{CapacityRange, NodeExpandVolumeRequest};
use serde_json::{Value, json};

use super::mount::secrets;
use super::request;
use super::saved::{Saved, places};
use crate::container::quantity;
use crate::pod::ext::PodExt;
use crate::volumes::{Source, VolumeError};

/// Bytes that the volume has more than its claim knows of.
pub fn due(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<i64> {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    let known = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    let has = quantity::value_of(capacity, "storage")?;
    let told = quantity::value_of(known, "storage")?;
    (has > told).then_some(has)
}

/// Grows the volume that is mounted at `target`, and tells its claim.
pub async fn expand(
    source: &Source<'_>,
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    target: &Path,
) -> Result<(), VolumeError> {
    let Some(bytes) = due(volume, claim) else { return Ok(()) };
    let spec = volume.spec.clone().unwrap_or_default();
    let Some(csi) = spec.csi else { return Ok(()) };
    let driver = source.ctx.csi.driver(&csi.driver).map_err(VolumeError::Invalid)?;
    if driver.can(Can::ExpandVolume) {
        let block = spec.volume_mode.as_deref() == Some("Block");
        let saved = Saved {
            driver: csi.driver.clone(),
            handle: csi.volume_handle.clone(),
            spec_name: volume.metadata.name.clone().unwrap_or_default(),
            ..Default::default()
        };
        let mode = spec.access_modes.as_deref().and_then(|modes| modes.first()).map(String::as_str);
        let mode = request::access_mode(mode, driver.can(Can::SingleNodeMultiWriter));
        let options = spec.mount_options.clone().unwrap_or_default();
        let fs_type = csi.fs_type.clone().unwrap_or_default();
        let staged = driver.can(Can::StageUnstageVolume);
        let stage = places(&source.ctx.options.root_dir, source.pod.uid(), &saved, block).stage;
        let reference: Option<&SecretReference> = csi.node_expand_secret_ref.as_ref();
        let request = NodeExpandVolumeRequest {
            volume_id: csi.volume_handle.clone(),
            volume_path: target.display().to_string(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            staging_target_path: if staged { stage.display().to_string() } else { String::new() },
            volume_capability: Some(request::capability(mode, block, &fs_type, &options, None)),
            secrets: secrets(source.ctx, reference).await?,
        };
        let failed =
            |error: String| VolumeError::Invalid(format!("MountVolume.NodeExpandVolume failed: {error}"));
        driver.expand(request).await.map_err(failed)?;
        let message = format!("MountVolume.NodeExpandVolume succeeded for volume {:?}", saved.spec_name);
        source.ctx.events.normal(source.pod, None, "FileSystemResizeSuccessful", &message);
    }
    tell_claim(source, volume, claim).await
}

async fn tell_claim(
    source: &Source<'_>,
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Result<(), VolumeError> {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage").cloned());
    let conditions = claim.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let resizing = |type_: &str| matches!(type_, "Resizing" | "FileSystemResizePending");
    let gone: Vec<Value> = conditions
        .iter()
        .filter(|condition| resizing(&condition.type_))
        .map(|condition| json!({"$patch": "delete", "type": condition.type_}))
        .collect();
    let patch = json!({"status": {
        "capacity": {"storage": capacity},
        "conditions": gone,
        "allocatedResourceStatuses": {"storage": null},
    }});
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(source.ctx.client.clone(), source.pod.namespace());
    let patched = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    patched.map(drop).map_err(|error| {
        VolumeError::Invalid(format!("cannot tell persistentvolumeclaim {name:?} its size: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_larger_than_its_claim_knows() {
        let volume =
            |size: &str| serde_json::from_value(json!({"spec": {"capacity": {"storage": size}}})).unwrap();
        let claim =
            |size: &str| serde_json::from_value(json!({"status": {"capacity": {"storage": size}}})).unwrap();
        assert_eq!(due(&volume("2Gi"), &claim("1Gi")), Some(2 << 30));
        assert_eq!(due(&volume("1Gi"), &claim("1024Mi")), None);
        assert_eq!(due(&volume("1Gi"), &PersistentVolumeClaim::default()), None);
    }
}
