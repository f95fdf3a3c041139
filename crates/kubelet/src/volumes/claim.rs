//! Claims whose volume is a directory of this node: `hostPath` and `local` PersistentVolumes.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource,
};
use kube::Api;

use super::ownership::own_tree;
use super::{Source, VolumeError, host_path};
use crate::pod::ext::PodExt;

pub async fn set_up(
    source: &Source<'_>,
    claim: &PersistentVolumeClaimVolumeSource,
    fs_group: Option<u32>,
) -> Result<PathBuf, VolumeError> {
    let invalid = |message: String| VolumeError::Invalid(message);
    let name = &claim.claim_name;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(source.client.clone(), source.pod.namespace());
    let found = claims
        .get_opt(name)
        .await
        .map_err(|error| invalid(format!("cannot read persistentvolumeclaim {name:?}: {error}")))?
        .ok_or_else(|| invalid(format!("persistentvolumeclaim {name:?} not found")))?;
    let bound = found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume_name = found.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    let Some(volume_name) = volume_name.filter(|_| bound) else {
        return Err(invalid(format!("persistentvolumeclaim {name:?} is not bound")));
    };
    let volumes: Api<PersistentVolume> = Api::all(source.client.clone());
    let volume = volumes
        .get(&volume_name)
        .await
        .map_err(|error| invalid(format!("cannot read persistentvolume {volume_name:?}: {error}")))?;
    let spec = volume.spec.unwrap_or_default();
    let ours = spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_ref()) == found.metadata.uid.as_ref();
    if !ours {
        return Err(invalid(format!(
            "persistentvolume {volume_name:?} is not bound to persistentvolumeclaim {name:?}"
        )));
    }
    let path = match (&spec.host_path, &spec.local) {
        (Some(host), _) => host_path::set_up(host)?,
        (_, Some(local)) => {
            let path = Path::new(&local.path);
            if !path.exists() {
                return Err(invalid(format!("path {:?} does not exist", local.path)));
            }
            path.to_owned()
        }
        _ => {
            return Err(invalid(format!(
                "persistentvolume {volume_name:?} is of a kind that this kubelet does not support"
            )));
        }
    };
    // hostPath volumes belong to the node: their ownership is never changed.
    if spec.local.is_some() {
        let at = path.clone();
        tokio::task::block_in_place(|| own_tree(&at, fs_group, false))?;
    }
    Ok(path)
}
