//! Taking volumes back: unpublished for the pod, unstaged for the node when no pod here has them any more.

use std::fs;
use std::path::{Path, PathBuf};

use plugins::csi::node_service_capability::rpc::Type as Can;
use plugins::csi::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest};

use super::saved::{Places, Saved, of_pod, others_have, places};
use crate::context::Context;
use crate::volumes::{VolumeError, is_mount_point};

/// Takes back all volumes of the pod whose directory that is. Nothing happens where there are none.
pub async fn take_back(ctx: &Context, pod_dir: &Path) -> Result<(), String> {
    let uid = pod_dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for (saved, block) in of_pod(pod_dir) {
        let error = |problem: String| {
            format!("UnmountVolume.TearDown failed for volume {:?} : {problem}", saved.spec_name)
        };
        take_back_one(ctx, &uid, &saved, block).await.map_err(error)?;
    }
    Ok(())
}

async fn take_back_one(ctx: &Context, uid: &str, saved: &Saved, block: bool) -> Result<(), String> {
    let name = saved.unique_name();
    let lock = ctx.csi.lock(&name);
    let _one_at_a_time = lock.lock().await;
    let root = &ctx.options.root_dir;
    let places = places(root, uid, saved, block);
    let driver = ctx.csi.driver(&saved.driver)?;
    let request = NodeUnpublishVolumeRequest {
        volume_id: saved.handle.clone(),
        target_path: places.target.display().to_string(),
    };
    driver.unpublish(request).await?;
    ctx.csi.staged.lock().remove(&places.target);
    remove(&places.target).map_err(|error| error.to_string())?;
    if saved.is_persistent() && !others_have(root, uid, saved) {
        if driver.can(Can::StageUnstageVolume) {
            let request = NodeUnstageVolumeRequest {
                volume_id: saved.handle.clone(),
                staging_target_path: places.stage.display().to_string(),
            };
            driver.unstage(request).await?;
            ctx.csi.staged.lock().remove(&places.stage);
            remove(&places.stage).map_err(|error| error.to_string())?;
            Saved::remove(&places.stage_dir);
        }
        ctx.csi.end_use(&name);
    }
    // Last: as long as it is there, this is tried again.
    Saved::remove(&places.pod_dir);
    Ok(())
}

/// What a driver has left of a path that it was given. Never what is in a volume that is still mounted there.
fn remove(path: &PathBuf) -> Result<(), VolumeError> {
    if is_mount_point(path) {
        return Err(VolumeError::Invalid(format!("the driver has left {} mounted", path.display())));
    }
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.map_err(|error| VolumeError::io("remove", path, error))
}

/// A publish has failed: if nothing came of it, nothing has to be taken back.
pub fn forget_if_absent(places: &Places) {
    if !places.target.exists() {
        Saved::remove(&places.pod_dir);
    }
}
