//! Pressure on the node's memory, disk and process table, by the thresholds of `evictionHard`, and who has to go
//! because of it.
//!
//! One pod at a time: the one that uses most above what it asked for, of the lowest priority. Short disks lose
//! unused images first.

use std::cmp::Reverse;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::container::qos;
use crate::context::Context;
use crate::node::Health;
use crate::node::machine_info::{meminfo, threshold_of};
use crate::pod::ext::PodExt;
use crate::pod::machine::Input;
use crate::server::stats;

const CHECK: Duration = Duration::from_secs(10);
/// How long an evicted pod has before the next is looked for.
const SETTLE: Duration = Duration::from_secs(30);
/// Pods of at least this priority are what the node itself needs.
const CRITICAL: i32 = 2_000_000_000;

/// What is short right now.
pub fn pressure(ctx: &Context) -> Health {
    let hard = &ctx.options.config.eviction_hard;
    let below = |signal: &str, available: Option<i64>, whole: i64| {
        let threshold = hard.get(signal).map(|text| threshold_of(text, whole));
        threshold.zip(available).is_some_and(|(threshold, available)| available < threshold)
    };
    let disk = rustix::fs::statvfs(&ctx.options.root_dir).ok();
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let free = disk.as_ref().map(|disk| number(disk.f_bavail.saturating_mul(disk.f_frsize)));
    let size = disk.as_ref().map_or(0, |disk| number(disk.f_blocks.saturating_mul(disk.f_frsize)));
    // Some file systems have as many inodes as they like, and say zero.
    let inodes = disk.as_ref().filter(|disk| disk.f_files > 0);
    let inodes_free = inodes.map(|disk| number(disk.f_favail));
    let inodes_all = inodes.map_or(0, |disk| number(disk.f_files));
    let pid_max = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let pid_max: i64 = pid_max.and_then(|text| text.trim().parse().ok()).unwrap_or(i64::MAX);
    Health {
        runtime: None,
        memory_pressure: below("memory.available", meminfo("MemAvailable:"), ctx.machine.memory),
        disk_pressure: below("nodefs.available", free, size)
            || below("nodefs.inodesFree", inodes_free, inodes_all),
        pid_pressure: below("pid.available", processes().map(|used| pid_max - used), pid_max),
    }
}

/// The number of tasks, from the fourth word of `/proc/loadavg`: `running/all`.
fn processes() -> Option<i64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Evicts pods while something is short, until `shutdown`.
pub async fn keep(
    ctx: Arc<Context>,
    kills: mpsc::UnboundedSender<(String, Input)>,
    disk_short: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut wait = CHECK;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = CHECK;
        let health = pressure(&ctx);
        if health.disk_pressure {
            disk_short.notify_one();
        }
        if !health.memory_pressure {
            continue;
        }
        let available = meminfo("MemAvailable:").unwrap_or(0);
        match victim(&ctx).await {
            Some(pod) => {
                let threshold =
                    ctx.options.config.eviction_hard.get("memory.available").cloned().unwrap_or_default();
                let message = format!(
                    "The node was low on resource: memory. Threshold quantity: {threshold}, available: {}Ki. ",
                    available / 1024
                );
                ctx.events.warning(&pod, None, "Evicted", &message);
                let kill = Input::Kill { reason: "Evicted".into(), message, grace: Some(0) };
                if kills.send((pod.uid().to_owned(), kill)).is_err() {
                    return;
                }
                wait = SETTLE;
            }
            None => warn!(available, "memory is short, and there is no pod that could be evicted"),
        }
    }
}

async fn victim(ctx: &Context) -> Option<Arc<Pod>> {
    let usages = stats::pods(ctx).await.ok()?;
    let used = |pod: &Pod| -> i64 {
        let usage = usages.iter().find(|usage| usage.uid == pod.uid());
        usage.and_then(stats::pod_memory).and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(0)
    };
    let candidates = ctx.pods.filter(|pod| {
        !matches!(pod.phase(), "Succeeded" | "Failed")
            && pod.deletion().is_none()
            && !pod.is_mirror()
            && pod.pod_spec().priority.unwrap_or(0) < CRITICAL
    });
    candidates.into_iter().max_by_key(|pod| rank(pod, used(pod)))
}

/// The larger, the sooner it goes: above its request or not, then low priority, then how far above.
fn rank(pod: &Pod, used: i64) -> (bool, Reverse<i32>, i64) {
    let above = used.saturating_sub(qos::requests(pod.pod_spec()).get("memory"));
    (above > 0, Reverse(pod.pod_spec().priority.unwrap_or(0)), above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_goes_first() {
        let pod = |priority: i32, request: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"priority": priority, "containers": [
                {"name": "c", "resources": {"requests": {"memory": request}}}]}}))
            .unwrap()
        };
        let modest = rank(&pod(0, "100Mi"), 50 << 20);
        let greedy = rank(&pod(0, "10Mi"), 50 << 20);
        let greedier = rank(&pod(0, "10Mi"), 500 << 20);
        let important = rank(&pod(1000, "10Mi"), 500 << 20);
        let mut order = [modest, important, greedier, greedy];
        order.sort();
        assert_eq!(order, [modest, important, greedy, greedier]);
    }
}
