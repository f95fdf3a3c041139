//! The volumes of a pod: directories on the node, made before its containers start, gone after they end.
//!
//! One file per kind. Those that are made of API objects ([`payload`]) are written by [`atomic`] and rewritten
//! when an object changes. [`subpath`] hands out parts of volumes without following anybody's symlinks out of them.

mod atomic;
mod claim;
mod empty_dir;
mod host_path;
mod mounts;
mod ownership;
mod payload;
mod subpath;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, Volume};

use crate::objects::PodObjects;
use crate::pod::ext::PodExt;

/// A volume could not be set up; the message is for the pod's `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{0}")]
    Invalid(String),
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
}

impl VolumeError {
    fn io(operation: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { operation, path: path.to_owned(), source: source.into() }
    }
}

/// What volumes are made from.
pub struct Source<'a> {
    pub pod: &'a Pod,
    pub objects: &'a PodObjects,
    pub client: &'a kube::Client,
    pub node_name: &'a str,
    pub host_ips: &'a [String],
    pub allocatable: &'a BTreeMap<String, i64>,
    /// The pod's directory.
    pub dir: &'a Path,
}

/// The volumes of a pod, set up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mounted {
    pub paths: HashMap<String, PathBuf>,
    /// When a token in one of them has to be renewed.
    pub refresh_at: Option<Timestamp>,
}

/// Sets up every volume. Idempotent: called again after a failure, a change of an object, a restart.
pub async fn mount(source: &Source<'_>) -> Result<Mounted, String> {
    let mut mounted = Mounted::default();
    for volume in source.pod.pod_spec().volumes.iter().flatten() {
        match mount_one(source, volume).await {
            Ok((path, refresh_at)) => {
                mounted.paths.insert(volume.name.clone(), path);
                mounted.refresh_at = mounted.refresh_at.into_iter().chain(refresh_at).min();
            }
            Err(error) => {
                return Err(format!("MountVolume.SetUp failed for volume {:?} : {error}", volume.name));
            }
        }
    }
    Ok(mounted)
}

async fn mount_one(
    source: &Source<'_>,
    volume: &Volume,
) -> Result<(PathBuf, Option<Timestamp>), VolumeError> {
    let place = |kind: &str| source.dir.join("volumes").join(kind).join(&volume.name);
    let fs_group = fs_group(source.pod);
    if let Some(empty_dir) = &volume.empty_dir {
        let path = empty_dir_path(source.dir, &volume.name);
        empty_dir::set_up(empty_dir, &path, fs_group)?;
        return Ok((path, None));
    }
    if let Some(host_path) = &volume.host_path {
        return Ok((host_path::set_up(host_path)?, None));
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let path = claim::set_up(source, claim, fs_group).await?;
        return Ok((path, None));
    }
    if volume.ephemeral.is_some() {
        // The controller has made the claim, or is about to.
        let claim = PersistentVolumeClaimVolumeSource {
            claim_name: format!("{}-{}", source.pod.name(), volume.name),
            ..Default::default()
        };
        return Ok((claim::set_up(source, &claim, fs_group).await?, None));
    }
    if let Some((kind, payload, refresh_at)) = payload::of(source, volume).await? {
        let path = place(kind);
        let in_memory = kind != "kubernetes.io~configmap" && kind != "kubernetes.io~downward-api";
        tokio::task::block_in_place(|| {
            if in_memory {
                mounts::tmpfs(&path, None)?;
            }
            atomic::write(&path, &payload, fs_group)
        })?;
        return Ok((path, refresh_at));
    }
    Err(VolumeError::Invalid("the volume is of a kind that this kubelet does not support".into()))
}

/// The claim behind a volume.
pub fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
    named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name(), volume.name)))
}

/// Whether the volume outlives its pod, or is another's.
pub fn is_persistent(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() || volume.csi.is_some()
}

/// Where an `emptyDir` of the pod is.
pub fn empty_dir_path(pod_dir: &Path, volume: &str) -> PathBuf {
    pod_dir.join("volumes").join("kubernetes.io~empty-dir").join(volume)
}

pub fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.pod_spec().security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Whether the pod has volumes that follow API objects.
pub fn follows_objects(pod: &Pod) -> bool {
    pod.pod_spec().volumes.iter().flatten().any(|volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some()
    })
}

/// Unmounts whatever is mounted below the pod's directory and removes it. What a volume points to elsewhere
/// (host paths, claims) is only ever bind-mounted below it, and unmounted first.
pub fn remove_pod_dir(dir: &Path) -> Result<(), VolumeError> {
    mounts::unmount_below(dir)?;
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(VolumeError::io("remove", dir, error))
        }
        _ => Ok(()),
    }
}

/// The text of a file that containers wrote into a volume; nothing when it is not there.
pub fn read_inside(volume: &Path, path: &str, max: u64) -> Result<Option<String>, VolumeError> {
    subpath::read_inside(volume, path, max)
}

/// Makes a part of a volume visible at `target` (below the pod's directory) and returns that.
pub fn set_up_subpath(volume: &Path, sub_path: &str, target: &Path) -> Result<PathBuf, VolumeError> {
    subpath::set_up(volume, sub_path, target)
}
