//! Claims: volumes of CSI drivers and of NFS servers, and directories and devices of this node (`hostPath` and `local`).

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    NFSVolumeSource, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource,
    PersistentVolumeSpec,
};
use kube::Api;

use super::{Source, VolumeError, group_volume, host_path, look_again, nfs};
use crate::csi;
use crate::pod::ext::PodExt;
use crate::turns::in_turn;

fn invalid(message: String) -> VolumeError {
    VolumeError::Invalid(message)
}

/// Where the claim's volume is, and when to look again. `volume` is the name that the pod gives it.
pub async fn set_up(
    source: &Source<'_>,
    wanted: &PersistentVolumeClaimVolumeSource,
    volume: &str,
) -> Result<(PathBuf, Option<Timestamp>), VolumeError> {
    let (claim, found) = bound(source, &wanted.claim_name).await?;
    let name = found.metadata.name.clone().unwrap_or_default();
    let spec = found.spec.clone().unwrap_or_default();
    let block = spec.volume_mode.as_deref() == Some("Block");
    check_use(source, volume, block)?;
    if let Some(csi) = &spec.csi {
        let wanted = csi::Wanted {
            driver: &csi.driver,
            handle: Some(&csi.volume_handle),
            spec_name: &name,
            fs_type: csi.fs_type.as_deref().unwrap_or_default(),
            attributes: csi.volume_attributes.as_ref(),
            access_mode: spec.access_modes.as_deref().and_then(|modes| modes.first()).map(String::as_str),
            mount_options: spec.mount_options.as_deref().unwrap_or_default(),
            read_only: wanted.read_only == Some(true) || csi.read_only == Some(true),
            block,
            stage_secret: csi.node_stage_secret_ref.as_ref(),
            publish_secret: csi.node_publish_secret_ref.clone(),
        };
        let (path, again) = csi::mount(source, &wanted).await?;
        csi::expand(source, &found, &claim, &path).await?;
        return Ok((path, again.into_iter().chain(look_again()).min()));
    }
    if let Some(nfs) = &spec.nfs {
        let read_only = Some(wanted.read_only == Some(true) || nfs.read_only == Some(true));
        let nfs = NFSVolumeSource { read_only, ..nfs.clone() };
        let options = spec.mount_options.as_deref().unwrap_or_default();
        return Ok((nfs::set_up(source, &nfs, &name, options).await?, None));
    }
    let path = in_turn(|| on_node(&spec, &name)).await?;
    // hostPath volumes belong to the node: their ownership is never changed.
    if spec.local.is_some() && !block {
        in_turn(|| group_volume(source.pod, &path)).await?;
    }
    Ok((path, None))
}

/// The claim and the volume that it is bound to.
async fn bound(
    source: &Source<'_>,
    name: &str,
) -> Result<(PersistentVolumeClaim, PersistentVolume), VolumeError> {
    let client = &source.ctx.client;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), source.pod.namespace());
    let claim = claims
        .get_opt(name)
        .await
        .map_err(|error| invalid(format!("cannot read persistentvolumeclaim {name:?}: {error}")))?
        .ok_or_else(|| invalid(format!("persistentvolumeclaim {name:?} not found")))?;
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    let Some(volume_name) = volume_name.filter(|_| bound) else {
        return Err(invalid(format!("persistentvolumeclaim {name:?} is not bound")));
    };
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = volumes
        .get(&volume_name)
        .await
        .map_err(|error| invalid(format!("cannot read persistentvolume {volume_name:?}: {error}")))?;
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if reference.and_then(|reference| reference.uid.as_ref()) != claim.metadata.uid.as_ref() {
        return Err(invalid(format!(
            "persistentvolume {volume_name:?} is not bound to persistentvolumeclaim {name:?}"
        )));
    }
    Ok((claim, volume))
}

/// File systems are mounted, block devices are not.
fn check_use(source: &Source<'_>, volume: &str, block: bool) -> Result<(), VolumeError> {
    let spec = source.pod.pod_spec();
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let wrong = containers.any(|container| {
        let mounted = container.volume_mounts.iter().flatten().any(|mount| mount.name == volume);
        let device = container.volume_devices.iter().flatten().any(|device| device.name == volume);
        if block { mounted } else { device }
    });
    match (wrong, block) {
        (false, _) => Ok(()),
        (true, true) => {
            Err(invalid(format!("volume {volume} has volumeMode Block, but is specified in volumeMounts")))
        }
        (true, false) => Err(invalid(format!(
            "volume {volume} has volumeMode Filesystem, but is specified in volumeDevices"
        ))),
    }
}

fn on_node(spec: &PersistentVolumeSpec, name: &str) -> Result<PathBuf, VolumeError> {
    match (&spec.host_path, &spec.local) {
        (Some(host), _) => host_path::set_up(host),
        (_, Some(local)) => {
            let path = Path::new(&local.path);
            if !path.exists() {
                return Err(invalid(format!("path {:?} does not exist", local.path)));
            }
            Ok(path.to_owned())
        }
        _ => {
            Err(invalid(format!("persistentvolume {name:?} is of a kind that this kubelet does not support")))
        }
    }
}
