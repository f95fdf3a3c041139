//! Keeps container logs within `containerLogMaxSize` and `containerLogMaxFiles`.
//!
//! A log that has grown too large is renamed, and the runtime is asked to open it anew; what was renamed before is
//! compressed then. Sizes are looked at every ten seconds, as upstream does: to be told of every write would cost more
//! than the writes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::container::config::log_path;
use crate::container::quantity;
use crate::context::Context;
use crate::cri::view::keys;
use crate::turns::in_turn;

/// Upstream's bound on `containerLogMonitorInterval`.
const OFTENEST: Duration = Duration::from_secs(3);

/// Rotates logs until `shutdown`.
pub async fn keep(ctx: Arc<Context>, shutdown: CancellationToken) {
    let config = &ctx.options.config;
    let max_size = quantity::value(&config.container_log_max_size).and_then(|size| u64::try_from(size).ok());
    let Some(max_size) = max_size.filter(|size| *size > 0) else {
        warn!(
            value = config.container_log_max_size,
            "containerLogMaxSize is not a size: logs are not rotated"
        );
        return;
    };
    let check = crate::config::duration(&config.container_log_monitor_interval);
    let check = check.unwrap_or(Duration::from_secs(10)).max(OFTENEST);
    let max_files = usize::try_from(config.container_log_max_files).unwrap_or(5).max(2);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(check) => {}
        }
        // Only pods that somebody wants have containers: without any there is nothing to ask for.
        if !ctx.pods.is_empty() {
            rotate_all(&ctx, max_size, max_files).await;
        }
    }
}

async fn rotate_all(ctx: &Context, max_size: u64, max_files: usize) {
    let running = cri::ContainerFilter {
        state: Some(cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning as i32 }),
        ..Default::default()
    };
    let request = cri::ListContainersRequest { filter: Some(running) };
    let Ok(list) = ctx.cri.list_containers(request).await else {
        return;
    };
    for container in list.containers {
        let Some(path) = log_of(ctx, &container) else { continue };
        if fs::metadata(&path).map_or(0, |meta| meta.len()) <= max_size {
            continue;
        }
        if let Err(error) = rotate(ctx, &container.id, &path, max_files).await {
            warn!(log = %path.display(), error, "cannot rotate a container's log");
        }
    }
}

fn log_of(ctx: &Context, container: &cri::Container) -> Option<PathBuf> {
    let label = |key: &str| container.labels.get(key).map(String::as_str);
    let dir = format!("{}_{}_{}", label(keys::POD_NAMESPACE)?, label(keys::POD_NAME)?, label(keys::POD_UID)?);
    let attempt = container.metadata.as_ref()?.attempt;
    Some(ctx.logs_root().join(dir).join(log_path(label(keys::CONTAINER_NAME)?, attempt)))
}

async fn rotate(ctx: &Context, id: &str, path: &Path, max_files: usize) -> Result<(), String> {
    let old = rotated_logs(path).map_err(|error| error.to_string())?;
    // One place is for the log itself, one for what is being rotated.
    let keep = max_files.saturating_sub(2);
    for path in old.iter().rev().skip(keep) {
        fs::remove_file(path).map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    }
    for path in old.iter().rev().take(keep) {
        let compressed = in_turn(|| compress(path)).await;
        compressed.map_err(|error| format!("cannot compress {}: {error}", path.display()))?;
    }
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let aside = PathBuf::from(format!("{}.{stamp}", path.display()));
    fs::rename(path, &aside).map_err(|error| error.to_string())?;
    if let Err(error) = ctx.cri.reopen_container_log(id).await {
        // The runtime still writes to the old file: it has to be found under the old name.
        return match fs::rename(&aside, path) {
            Ok(()) => Err(error.to_string()),
            Err(undo) => Err(format!("{error}; and cannot rename it back: {undo}")),
        };
    }
    Ok(())
}

/// Replaces a file by its compressed form; one that is compressed stays.
fn compress(path: &Path) -> std::io::Result<()> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        return Ok(());
    }
    let beside = PathBuf::from(format!("{}.tmp", path.display()));
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(&beside)?, flate2::Compression::default());
    std::io::copy(&mut fs::File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&beside, format!("{}.gz", path.display()))?;
    fs::remove_file(path)
}

/// Earlier logs of the same container, oldest first.
fn rotated_logs(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // What is being compressed, or never was to its end, counts for nothing.
            name.starts_with(&prefix) && !name.ends_with(".tmp")
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rotated_ones_of_this_container_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["0.log", "0.log.20260102-000000", "0.log.20260101-000000", "10.log.20260101-000000"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = rotated_logs(&dir.path().join("0.log")).unwrap();
        let names: Vec<&str> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["0.log.20260101-000000", "0.log.20260102-000000"]);
        fs::write(&found[0], "text\n").unwrap();
        compress(&found[0]).unwrap();
        compress(&dir.path().join("0.log.20260101-000000.gz")).unwrap();
        let file = fs::File::open(dir.path().join("0.log.20260101-000000.gz")).unwrap();
        let text = std::io::read_to_string(flate2::read::GzDecoder::new(file)).unwrap();
        assert_eq!(text, "text\n");
        assert!(!found[0].exists());
    }
}
