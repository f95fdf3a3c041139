//! Pressure on the node's memory, disk and process table, and who has to go because of it.
//!
//! [`signals`] knows the thresholds (`evictionHard`, `evictionSoft`), [`disk`] what pods have on the disk. One pod at a
//! time goes: the one that uses most above what it asked for, of the lowest priority. Short disks lose unused images
//! first. A pod that uses more of the disk than it may goes whether the disk is short or not.

mod disk;
mod signals;

pub use disk::tree_usage;

use std::cmp::Reverse;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::KubeletConfiguration;
use crate::container::qos;
use crate::context::Context;
use crate::image_gc::ImageCollector;
use crate::meters;
use crate::node::Health;
use crate::node::machine_info::meminfo;
use crate::pod::admission::Rejection;
use crate::pod::ext::PodExt;
use crate::pod::machine::Input;
use crate::pod::preemption::is_critical;
use crate::server::stats::{self, PodUsage};
use signals::{Level, Levels, Threshold, Watch};

const CHECK: Duration = Duration::from_secs(10);
/// How long an evicted pod has before the next is looked for.
const SETTLE: Duration = Duration::from_secs(30);

/// What is short on this node.
pub struct Pressure(Mutex<Watch>);

impl Pressure {
    pub fn new(config: &KubeletConfiguration) -> Self {
        Self(Mutex::new(Watch::new(config)))
    }

    fn observe(&self, ctx: &Context) -> Vec<Threshold> {
        self.0.lock().observe(&levels(ctx), Instant::now())
    }

    /// For the node's conditions.
    pub fn health(&self, ctx: &Context) -> Health {
        self.observe(ctx);
        let watch = self.0.lock();
        let holds = |condition: &str| watch.holds(condition, Instant::now());
        Health {
            runtime: None,
            memory_pressure: holds("MemoryPressure"),
            disk_pressure: holds("DiskPressure"),
            pid_pressure: holds("PIDPressure"),
        }
    }

    /// Whether a new pod may come although something is short.
    pub fn admit(&self, pod: &Pod) -> Result<(), Rejection> {
        let watch = self.0.lock();
        let now = Instant::now();
        let conditions = ["MemoryPressure", "DiskPressure", "PIDPressure"];
        let short: Vec<&str> = conditions.into_iter().filter(|name| watch.holds(name, now)).collect();
        if short.is_empty() || is_critical(pod) {
            return Ok(());
        }
        let tolerates = || {
            pod.pod_spec().tolerations.iter().flatten().any(|toleration| {
                let key = toleration.key.as_deref().unwrap_or_default();
                (key.is_empty() && toleration.operator.as_deref() == Some("Exists"))
                    || key == "node.kubernetes.io/memory-pressure"
            })
        };
        let best_effort = qos::class(pod.pod_spec()) == qos::Class::BestEffort;
        if short == ["MemoryPressure"] && (!best_effort || tolerates()) {
            return Ok(());
        }
        let message = format!("The node had condition: [{}]. ", short.join(" "));
        Err(Rejection { reason: "Evicted".into(), message })
    }
}

fn levels(ctx: &Context) -> Levels {
    let mut levels = Levels::new();
    if let Some(available) = meminfo("MemAvailable:") {
        levels.insert("memory.available", Level { capacity: ctx.machine.memory, available });
    }
    let mut disk = |path: &Path, bytes: &[&'static str], inodes: &[&'static str]| {
        let Ok(stat) = rustix::fs::statvfs(path) else { return };
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for signal in bytes {
            let capacity = number(stat.f_blocks.saturating_mul(stat.f_frsize));
            let available = number(stat.f_bavail.saturating_mul(stat.f_frsize));
            levels.insert(signal, Level { capacity, available });
        }
        // Some file systems have as many inodes as they like, and say zero.
        for signal in inodes.iter().filter(|_| stat.f_files > 0) {
            levels.insert(signal, Level { capacity: number(stat.f_files), available: number(stat.f_favail) });
        }
    };
    disk(&ctx.options.root_dir, &["nodefs.available"], &["nodefs.inodesFree"]);
    // Images on the node's own file system are counted there.
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let own = device(&ctx.options.root_dir);
    if let Some(images) = ctx.image_fs.lock().clone().filter(|images| device(images) != own) {
        disk(
            &images,
            &["imagefs.available", "containerfs.available"],
            &["imagefs.inodesFree", "containerfs.inodesFree"],
        );
    }
    let pid_max = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let pid_max: Option<i64> = pid_max.and_then(|text| text.trim().parse().ok());
    if let (Some(capacity), Some(used)) = (pid_max, processes()) {
        levels.insert("pid.available", Level { capacity, available: capacity - used });
    }
    levels
}

/// The number of tasks, from the fourth word of `/proc/loadavg`: `running/all`.
fn processes() -> Option<i64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

type Kills = mpsc::UnboundedSender<(String, Input)>;

/// Evicts pods while something is short, and those that use too much, until `shutdown`.
pub async fn keep(ctx: Arc<Context>, kills: Kills, shutdown: CancellationToken) {
    let mut images = ImageCollector::new(ctx.clone());
    let mut wait = Duration::from_secs(1);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        images.collect_now_and_then().await;
        wait = if relieve(&ctx, &mut images, &kills).await { SETTLE } else { CHECK };
    }
}

/// True when a pod was sent away.
async fn relieve(ctx: &Context, images: &mut ImageCollector, kills: &Kills) -> bool {
    let mut met = ctx.pressure.observe(ctx);
    if met.iter().any(|threshold| signals::condition(threshold.signal) == "DiskPressure") {
        images.free_everything().await;
        met = ctx.pressure.observe(ctx);
    }
    let limited = ctx.pods.filter(|pod| may_go(pod) && disk::is_limited(pod));
    if met.is_empty() && limited.is_empty() {
        return false;
    }
    let Ok(usages) = stats::pods(ctx).await else { return false };
    let of = |pod: &Pod| usages.iter().find(|usage| usage.uid == pod.uid());
    for pod in limited {
        let usage = tokio::task::block_in_place(|| disk::usage(ctx, &pod, of(&pod)));
        if let Some(message) = disk::excess(&pod, &usage) {
            evict(ctx, &pod, "ephemeralpodfs.limit", message, 0, kills);
        }
    }
    let Some(threshold) = met.first() else { return false };
    let resource = match signals::condition(threshold.signal) {
        "MemoryPressure" => "memory",
        "PIDPressure" => "pids",
        _ if threshold.signal.ends_with("inodesFree") => "inodes",
        _ => "ephemeral-storage",
    };
    let candidates = ctx.pods.filter(|pod| may_go(pod) && !is_critical(pod));
    let used = |pod: &Pod| match resource {
        "memory" => memory_of(of(pod)),
        "pids" => processes_of(of(pod)),
        _ => tokio::task::block_in_place(|| disk::usage(ctx, pod, of(pod)).total()),
    };
    let Some(victim) = candidates.into_iter().max_by_key(|pod| rank(pod, resource, used(pod))) else {
        warn!(signal = threshold.signal, "something is short, and there is no pod that could be evicted");
        return false;
    };
    let available = levels(ctx).get(threshold.signal).map_or(0, |level| level.available);
    let available = match resource {
        "memory" | "ephemeral-storage" => format!("{}Ki", available / 1024),
        _ => available.to_string(),
    };
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {available}. ",
        threshold.text
    );
    if resource == "memory" {
        message += &consumption(&victim, of(&victim));
    }
    let grace = match threshold.is_soft() {
        true => victim.grace().min(ctx.options.config.eviction_max_pod_grace_period),
        false => 0,
    };
    evict(ctx, &victim, threshold.signal, message, grace, kills);
    true
}

fn may_go(pod: &Pod) -> bool {
    !matches!(pod.phase(), "Succeeded" | "Failed") && pod.deletion().is_none() && !pod.is_mirror()
}

fn evict(ctx: &Context, pod: &Pod, signal: &str, message: String, grace: i64, kills: &Kills) {
    meters::count("kubelet_evictions", &[("eviction_signal", signal)]);
    ctx.events.warning(pod, None, "Evicted", &message);
    let kill = Input::Kill { reason: "Evicted".into(), message, grace: Some(grace) };
    // Without a manager the kubelet is about to end.
    let _ = kills.send((pod.uid().to_owned(), kill));
}

fn memory_of(usage: Option<&PodUsage>) -> i64 {
    usage.and_then(stats::pod_memory).and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(0)
}

fn processes_of(usage: Option<&PodUsage>) -> i64 {
    let process = usage.and_then(|usage| usage.whole.as_ref()?.process.as_ref()?.process_count.as_ref());
    process.and_then(|count| i64::try_from(count.value).ok()).unwrap_or(0)
}

/// The containers that use more than they asked for.
fn consumption(pod: &Pod, usage: Option<&PodUsage>) -> String {
    let mut text = String::new();
    for stats in usage.iter().flat_map(|usage| &usage.containers) {
        let name = stats::container_name(stats);
        let container = pod.pod_spec().containers.iter().find(|container| container.name == name);
        let requests = container
            .and_then(|container| container.resources.as_ref())
            .and_then(|resources| resources.requests.as_ref());
        let request = crate::container::quantity::value_of(requests, "memory").unwrap_or(0);
        let used = stats::working_set(stats.memory.as_ref()).and_then(|bytes| i64::try_from(bytes).ok());
        if let Some(used) = used.filter(|used| *used > request) {
            text += &format!(
                "Container {name} was using {}Ki, request is {request}, has larger consumption of memory. ",
                used / 1024
            );
        }
    }
    text
}

/// The larger, the sooner it goes: above its request or not, then low priority, then how far above.
fn rank(pod: &Pod, resource: &str, used: i64) -> (bool, Reverse<i32>, i64) {
    let above = used.saturating_sub(qos::requests(pod.pod_spec()).get(resource));
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
        let modest = rank(&pod(0, "100Mi"), "memory", 50 << 20);
        let greedy = rank(&pod(0, "10Mi"), "memory", 50 << 20);
        let greedier = rank(&pod(0, "10Mi"), "memory", 500 << 20);
        let important = rank(&pod(1000, "10Mi"), "memory", 500 << 20);
        let mut order = [modest, important, greedier, greedy];
        order.sort();
        assert_eq!(order, [modest, important, greedy, greedier]);
    }
}
