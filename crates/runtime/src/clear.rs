//! Taking down all that this runtime ever made, but for images.

use std::fs;
use std::sync::Arc;

use rustix::mount::{UnmountFlags, unmount};

use crate::state::{Runtime, blocking};
use crate::{Config, Result};

/// Kills and removes every sandbox with its containers, then the pod network; returns how many sandboxes there were.
/// No other process may be using the same directories.
pub async fn clear(config: Config) -> Result<usize> {
    let runtime = blocking(move || {
        let runtime = Arc::new(Runtime::open(config)?);
        runtime.isolate_mounts()?;
        Ok(runtime)
    })
    .await?;
    runtime.recover().await?;
    let sandboxes = runtime.sandboxes.list();
    for sandbox in &sandboxes {
        runtime.remove_sandbox(sandbox).await?;
    }
    let count = sandboxes.len();
    blocking(move || {
        runtime.bridge.remove()?;
        // The mount of the directory on itself, made by every start.
        while unmount(&runtime.config.run_dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
        let _ = fs::remove_file(&runtime.config.socket);
        runtime.trash.delete_all()
    })
    .await?;
    Ok(count)
}
