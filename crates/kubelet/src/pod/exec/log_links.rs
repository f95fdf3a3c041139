//! `/var/log/containers`: a link per container to its log, by names that say whose it is. Log collectors look there.
//!
//! Only on a machine of one node, whose logs are where collectors expect them, in `/var/log/pods`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use tracing::debug;

use crate::context::{Context, LOGS_OF_THE_MACHINE};
use crate::pod::ext::PodExt;

const DIR: &str = "/var/log/containers";

fn is_used(ctx: &Context) -> bool {
    ctx.logs_root() == Path::new(LOGS_OF_THE_MACHINE)
}

fn prefix(pod: &Pod) -> String {
    format!("{}_{}_", pod.name(), pod.namespace())
}

/// A container has been made whose log is at `log`.
pub fn add(ctx: &Context, pod: &Pod, container: &str, id: &str, log: &Path) {
    if !is_used(ctx) {
        return;
    }
    let link = Path::new(DIR).join(format!("{}{container}-{id}.log", prefix(pod)));
    let made = fs::create_dir_all(DIR).and_then(|()| symlink(log, &link));
    if let Err(error) = made {
        debug!(link = %link.display(), %error, "cannot link to a container's log");
    }
}

/// Removes the links of the pod whose logs are gone.
pub fn clean(ctx: &Context, pod: &Pod) {
    if !is_used(ctx) {
        return;
    }
    let prefix = prefix(pod);
    for entry in fs::read_dir(DIR).into_iter().flatten().flatten() {
        let own = entry.file_name().to_string_lossy().starts_with(&prefix);
        if own && !entry.path().exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
}
