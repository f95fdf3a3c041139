//! What is done to a bundle before libcontainer sees it.

use std::fs;
use std::path::Path;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::Value;

use crate::container::Overlay;
use crate::disk;

/// Mounts the root filesystem, in a mount namespace that ends with the container.
pub fn mount_root(bundle: &Path) -> Result<(), String> {
    let path = bundle.join("overlay.json");
    if !path.exists() {
        return Ok(());
    }
    let overlay: Overlay = disk::load(&path).map_err(|e| e.to_string())?;
    // SAFETY: this process has one thread, and a mount namespace is not shared state of memory.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(|e| format!("make a mount namespace: {e}"))?;
    // Only for the place of the mount: the rest stays shared with the host, for volumes that are.
    if mount_change(&overlay.target, MountPropagationFlags::PRIVATE).is_err() {
        rustix::mount::mount_bind(&overlay.target, &overlay.target)
            .and_then(|()| mount_change(&overlay.target, MountPropagationFlags::PRIVATE))
            .map_err(|e| format!("make {} a mount: {e}", overlay.target.display()))?;
    }
    overlay.mount().map_err(|e| e.to_string())
}

/// Applies to this process, whose child the container is, what may fail without harm, and takes it out of the configuration.
pub fn soften(bundle: &Path) -> Result<(), String> {
    let path = bundle.join("config.json");
    let mut config: Value = disk::load(&path).map_err(|e| e.to_string())?;
    let Some(process) = config.get_mut("process").and_then(Value::as_object_mut) else { return Ok(()) };
    let Some(score) = process.remove("oomScoreAdj").and_then(|s| s.as_i64()) else { return Ok(()) };
    // Lowering it needs CAP_SYS_RESOURCE, which some machines do not have: then it is as it is.
    let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
    disk::save(&path, &config).map_err(|e| e.to_string())
}
