//! The volumes of a pod: directories on the node, made before its containers start, gone after they end.
//!
//! One file per kind. Those that are made of API objects ([`payload`]) are written by [`atomic`] and rewritten
//! when an object changes. [`subpath`] hands out parts of volumes without following anybody's symlinks out of them.

mod atomic;
mod claim;
mod empty_dir;
mod host_path;
mod mounts;
mod nfs;
mod ownership;
mod payload;
mod subpath;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub use mounts::is_mount_point;
pub use token::forget as forget_tokens;
pub use token::request as request_token;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, SecretReference, Volume};

use crate::container::qos;
use crate::context::Context;
use crate::csi;
use crate::meters;
use crate::objects::PodObjects;
use crate::pod::ext::PodExt;
use crate::turns::in_turn;

/// A volume could not be set up; the message is for the pod's `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{0}")]
    Invalid(String),
    #[error("{operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
}

impl VolumeError {
    pub fn io(operation: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { operation, path: path.to_owned(), source: source.into() }
    }
}

/// What volumes are made from.
pub struct Source<'a> {
    pub ctx: &'a Context,
    pub pod: &'a Pod,
    pub objects: &'a PodObjects,
    pub node_name: &'a str,
    pub host_ips: &'a [String],
    pub allocatable: &'a BTreeMap<String, i64>,
    /// The pod's directory.
    pub dir: &'a Path,
}

/// The volumes of a pod, set up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mounted {
    /// By name: directories and, of block volumes, devices.
    pub paths: HashMap<String, PathBuf>,
    /// When a token in one of them has to be renewed, or a driver or a claim to be asked again.
    pub refresh_at: Option<Timestamp>,
}

/// Sets up every volume. Idempotent: called again after a failure, a change of an object, a restart.
pub async fn mount(source: &Source<'_>) -> Result<Mounted, String> {
    let mut mounted = Mounted::default();
    for volume in source.pod.pod_spec().volumes.iter().flatten() {
        // Containers mount those as images.
        if volume.image.is_some() {
            continue;
        }
        let began = std::time::Instant::now();
        let made = mount_one(source, volume).await;
        let labels = [
            ("migrated", "false"),
            ("operation_name", "volume_mount"),
            ("status", if made.is_ok() { "success" } else { "fail-unknown" }),
            ("volume_plugin", plugin(volume)),
        ];
        meters::observe("storage_operation_duration_seconds", &labels, began.elapsed());
        match made {
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

/// What upstream calls who makes such volumes.
pub fn plugin(volume: &Volume) -> &'static str {
    match volume {
        Volume { empty_dir: Some(_), .. } => "kubernetes.io/empty-dir",
        Volume { host_path: Some(_), .. } => "kubernetes.io/host-path",
        Volume { config_map: Some(_), .. } => "kubernetes.io/configmap",
        Volume { secret: Some(_), .. } => "kubernetes.io/secret",
        Volume { projected: Some(_), .. } => "kubernetes.io/projected",
        Volume { downward_api: Some(_), .. } => "kubernetes.io/downward-api",
        Volume { csi: Some(_), .. } => "kubernetes.io/csi",
        Volume { nfs: Some(_), .. } => "kubernetes.io/nfs",
        _ => "kubernetes.io/persistent-claim",
    }
}

async fn mount_one(
    source: &Source<'_>,
    volume: &Volume,
) -> Result<(PathBuf, Option<Timestamp>), VolumeError> {
    let place = |kind: &str| source.dir.join("volumes").join(kind).join(&volume.name);
    let fs_group = fs_group(source.pod);
    if let Some(empty_dir) = &volume.empty_dir {
        let path = empty_dir_path(source.dir, &volume.name);
        let limits = qos::limits(source.pod.pod_spec());
        let bounds = [limits.amounts.get("memory").copied(), source.allocatable.get("memory").copied()];
        empty_dir::set_up(empty_dir, &path, fs_group, &bounds)?;
        return Ok((path, None));
    }
    if let Some(host_path) = &volume.host_path {
        // It may lead into any file system, one that hangs as well.
        return Ok((in_turn(|| host_path::set_up(host_path)).await?, None));
    }
    if let Some(nfs) = &volume.nfs {
        return Ok((Box::pin(nfs::set_up(source, nfs, &volume.name, &[])).await?, None));
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        // In memory of its own: most pods have none, and the task of every pod would have room for it.
        return Box::pin(claim::set_up(source, claim, &volume.name)).await;
    }
    if volume.ephemeral.is_some() {
        // The controller has made the claim, or is about to.
        let claim = PersistentVolumeClaimVolumeSource {
            claim_name: format!("{}-{}", source.pod.name(), volume.name),
            ..Default::default()
        };
        return Box::pin(claim::set_up(source, &claim, &volume.name)).await;
    }
    if let Some(csi) = &volume.csi {
        let namespace = source.pod.namespace();
        let secret = csi.node_publish_secret_ref.as_ref().map(|secret| SecretReference {
            name: Some(secret.name.clone()),
            namespace: Some(namespace.to_owned()),
        });
        let wanted = csi::Wanted {
            driver: &csi.driver,
            spec_name: &volume.name,
            fs_type: csi.fs_type.as_deref().unwrap_or_default(),
            attributes: csi.volume_attributes.as_ref(),
            read_only: csi.read_only == Some(true),
            publish_secret: secret,
            ..Default::default()
        };
        return Box::pin(csi::mount(source, &wanted)).await;
    }
    if let Some((kind, payload, refresh_at)) = payload::of(source, volume).await? {
        let path = place(kind);
        let in_memory = kind != "kubernetes.io~configmap" && kind != "kubernetes.io~downward-api";
        in_turn(|| {
            if in_memory {
                mounts::tmpfs(&path, None)?;
            }
            atomic::write(&path, &payload, fs_group)
        })
        .await?;
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
    volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some()
        || volume.csi.is_some()
        || volume.nfs.is_some()
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

/// Gives a volume to the group of the pod, all of it or, by the pod's policy, only when its root is not the group's.
pub fn group_volume(pod: &Pod, path: &Path) -> Result<(), VolumeError> {
    let context = pod.pod_spec().security_context.as_ref();
    let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
    let group = fs_group(pod);
    if policy == Some("OnRootMismatch") && group.is_some_and(|group| ownership::is_owned(path, group)) {
        return Ok(());
    }
    ownership::own_tree(path, group, false)
}

/// When a claim is looked at again: its volume may have grown.
fn look_again() -> Option<Timestamp> {
    Timestamp::now().checked_add(SignedDuration::from_secs(60)).ok()
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
