//! `/stats/summary`: what the node, its pods, their containers and volumes use, in upstream's `Summary` form.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use rustix::fs::StatVfs;
use serde_json::{Map, Value, json};

use super::pressure;
use super::rates::Rates;
use super::stats::{PodUsage, container_name, node_cpu_nanoseconds, node_working_set, pods};
use super::{Body, error, json as json_answer};
use crate::context::Context;
use crate::csi;
use crate::csi::stats::Usages;
use crate::eviction::tree_usage;
use crate::fullness;
use crate::node::machine_info::meminfo;
use crate::pod::ext::PodExt;
use crate::volumes;

/// Between two looks, when there was none before: a rate needs two.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

pub async fn handle(ctx: &Arc<Context>, rates: &Arc<Rates>, only_cpu_and_memory: bool) -> Response<Body> {
    let failed =
        |problem: crate::cri::CriError| error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string());
    if rates.is_stale(nanoseconds(Timestamp::now())) {
        match pods(ctx).await {
            Ok(usages) => drop(whole(ctx, rates, &usages, &Usages::new(), true)),
            Err(problem) => return failed(problem),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let usages = match pods(ctx).await {
        Ok(usages) => usages,
        Err(problem) => return failed(problem),
    };
    let uids: Vec<String> = usages.iter().map(|usage| usage.uid.clone()).collect();
    let volumes = if only_cpu_and_memory { Usages::new() } else { csi::stats::of_pods(ctx, &uids).await };
    let (ctx, rates) = (ctx.clone(), rates.clone());
    // Directories are walked.
    let summary = tokio::task::spawn_blocking(move || {
        let summary = whole(&ctx, &rates, &usages, &volumes, only_cpu_and_memory);
        rates.clean(nanoseconds(Timestamp::now()));
        summary
    });
    match summary.await {
        Ok(summary) => json_answer(&summary),
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    }
}

fn nanoseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn time_of(nanoseconds: i64) -> String {
    time(Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default())
}

fn number(into: &mut Map<String, Value>, name: &str, value: Option<&cri::UInt64Value>) {
    if let Some(value) = value {
        into.insert(name.to_owned(), json!(value.value));
    }
}

fn whole(
    ctx: &Context,
    rates: &Rates,
    usages: &[PodUsage],
    volumes: &Usages,
    only_cpu_and_memory: bool,
) -> Value {
    let known = ctx.pods.list();
    let statics = ctx.statics.lock().clone();
    let pod_of = |uid: &str| known.iter().chain(&statics).find(|pod| pod.uid() == uid);
    let pods: Vec<Value> = usages
        .iter()
        .map(|usage| {
            let mut fields = pod(rates, usage);
            if !only_cpu_and_memory {
                disk(ctx, usage, pod_of(&usage.uid), volumes, &mut fields);
            }
            Value::Object(fields)
        })
        .collect();
    json!({"node": node(ctx, rates, only_cpu_and_memory), "pods": pods})
}

/// One CPU figure, with its rate.
fn cpu(rates: &Rates, what: &str, usage: &cri::CpuUsage) -> Value {
    let mut fields = Map::new();
    fields.insert("time".into(), json!(time_of(usage.timestamp)));
    let counted = usage.usage_core_nano_seconds.as_ref().map(|used| used.value);
    let rate = usage.usage_nano_cores.as_ref().map(|rate| rate.value);
    let rate = rate.or_else(|| rates.of(what, usage.timestamp, counted?));
    if let Some(rate) = rate {
        fields.insert("usageNanoCores".into(), json!(rate));
    }
    number(&mut fields, "usageCoreNanoSeconds", usage.usage_core_nano_seconds.as_ref());
    fields.extend(pressure::of_cri(usage.psi.as_ref()).map(|psi| ("psi".to_owned(), psi)));
    Value::Object(fields)
}

fn memory(usage: &cri::MemoryUsage) -> Value {
    let mut fields = Map::new();
    fields.insert("time".into(), json!(time_of(usage.timestamp)));
    // Nothing is available of what has no limit.
    let available = usage.available_bytes.as_ref().filter(|bytes| bytes.value > 0);
    number(&mut fields, "availableBytes", available);
    number(&mut fields, "usageBytes", usage.usage_bytes.as_ref());
    number(&mut fields, "workingSetBytes", usage.working_set_bytes.as_ref());
    number(&mut fields, "rssBytes", usage.rss_bytes.as_ref());
    number(&mut fields, "pageFaults", usage.page_faults.as_ref());
    number(&mut fields, "majorPageFaults", usage.major_page_faults.as_ref());
    fields.extend(pressure::of_cri(usage.psi.as_ref()).map(|psi| ("psi".to_owned(), psi)));
    Value::Object(fields)
}

fn swap(usage: &cri::SwapUsage) -> Value {
    let mut fields = Map::new();
    fields.insert("time".into(), json!(time_of(usage.timestamp)));
    number(&mut fields, "swapAvailableBytes", usage.swap_available_bytes.as_ref());
    number(&mut fields, "swapUsageBytes", usage.swap_usage_bytes.as_ref());
    Value::Object(fields)
}

fn io(usage: &cri::IoUsage) -> Value {
    json!({"time": time_of(usage.timestamp), "psi": pressure::of_cri(usage.psi.as_ref())})
}

/// Of the pod: what its containers have swapped out together.
fn pod_swap(containers: &[cri::ContainerStats]) -> Option<Value> {
    let mut swaps = containers.iter().filter_map(|stats| stats.swap.as_ref()).peekable();
    let time = time_of(swaps.peek()?.timestamp);
    let sum = |value: fn(&cri::SwapUsage) -> Option<&cri::UInt64Value>| -> Option<u64> {
        let swaps = containers.iter().filter_map(|stats| stats.swap.as_ref());
        swaps.map(|swap| Some(value(swap)?.value)).sum()
    };
    let mut fields = Map::from_iter([("time".to_owned(), json!(time))]);
    for (name, value) in [
        ("swapAvailableBytes", sum(|swap| swap.swap_available_bytes.as_ref())),
        ("swapUsageBytes", sum(|swap| swap.swap_usage_bytes.as_ref())),
    ] {
        fields.extend(value.map(|value| (name.to_owned(), json!(value))));
    }
    Some(Value::Object(fields))
}

fn container(rates: &Rates, pod: &PodUsage, stats: &cri::ContainerStats) -> Value {
    let mut fields = Map::new();
    let name = container_name(stats);
    if let Some(usage) = &stats.cpu {
        fields.insert("cpu".into(), cpu(rates, &format!("{}/{name}", pod.uid), usage));
    }
    if let Some(usage) = &stats.memory {
        fields.insert("memory".into(), memory(usage));
    }
    if let Some(usage) = &stats.swap {
        fields.insert("swap".into(), swap(usage));
    }
    if let Some(usage) = &stats.io {
        fields.insert("io".into(), io(usage));
    }
    fields.insert("name".into(), json!(name));
    Value::Object(fields)
}

fn interface(usage: &cri::NetworkInterfaceUsage) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("name".into(), json!(usage.name));
    number(&mut fields, "rxBytes", usage.rx_bytes.as_ref());
    number(&mut fields, "rxErrors", usage.rx_errors.as_ref());
    number(&mut fields, "txBytes", usage.tx_bytes.as_ref());
    number(&mut fields, "txErrors", usage.tx_errors.as_ref());
    fields
}

fn pod(rates: &Rates, usage: &PodUsage) -> Map<String, Value> {
    let mut fields = Map::new();
    fields
        .insert("podRef".into(), json!({"name": usage.name, "namespace": usage.namespace, "uid": usage.uid}));
    let containers: Vec<Value> =
        usage.containers.iter().map(|stats| container(rates, usage, stats)).collect();
    fields.insert("containers".into(), Value::Array(containers));
    let whole = usage.whole.as_ref();
    if let Some(used) = whole.and_then(|whole| whole.cpu.as_ref()) {
        fields.insert("cpu".into(), cpu(rates, &usage.uid, used));
    }
    if let Some(used) = whole.and_then(|whole| whole.memory.as_ref()) {
        fields.insert("memory".into(), memory(used));
    }
    if let Some(usage) = whole.and_then(|whole| whole.io.as_ref()) {
        fields.insert("io".into(), io(usage));
    }
    fields.extend(pod_swap(&usage.containers).map(|swap| ("swap".to_owned(), swap)));
    if let Some(network) = whole.and_then(|whole| whole.network.as_ref())
        && let Some(first) = &network.default_interface
    {
        let mut net = interface(first);
        net.insert("time".into(), json!(time_of(network.timestamp)));
        let all = std::iter::once(first).chain(&network.interfaces).map(interface);
        net.insert("interfaces".into(), all.map(Value::Object).collect());
        fields.insert("network".into(), Value::Object(net));
    }
    if let Some(processes) = whole.and_then(|whole| whole.process.as_ref()) {
        let mut stats = Map::new();
        number(&mut stats, "process_count", processes.process_count.as_ref());
        fields.insert("process_stats".into(), Value::Object(stats));
    }
    fields
}

/// A file system, and how much of it something uses.
fn on_disk(at: &Path, used: Option<(i64, u64)>) -> Option<Map<String, Value>> {
    Some(figures(&rustix::fs::statvfs(at).ok()?, used))
}

fn figures(disk: &StatVfs, used: Option<(i64, u64)>) -> Map<String, Value> {
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let mut fields = Map::new();
    fields.insert("time".into(), json!(time(Timestamp::now())));
    fields.insert("availableBytes".into(), json!(bytes(disk.f_bavail)));
    fields.insert("capacityBytes".into(), json!(bytes(disk.f_blocks)));
    fields.insert("inodesFree".into(), json!(disk.f_favail));
    fields.insert("inodes".into(), json!(disk.f_files));
    let (used_bytes, inodes) = match used {
        Some((bytes, inodes)) => (u64::try_from(bytes).unwrap_or(0), inodes),
        None => {
            (bytes(disk.f_blocks.saturating_sub(disk.f_bfree)), disk.f_files.saturating_sub(disk.f_ffree))
        }
    };
    fields.insert("usedBytes".into(), json!(used_bytes));
    fields.insert("inodesUsed".into(), json!(inodes));
    fields
}

/// What the pod has on disk: root file systems, logs, volumes, and the sum of what goes with it.
fn disk(
    ctx: &Context,
    usage: &PodUsage,
    pod: Option<&Arc<Pod>>,
    told: &Usages,
    fields: &mut Map<String, Value>,
) {
    let images = ctx.image_fs.lock().clone().unwrap_or_else(|| ctx.options.root_dir.clone());
    let mut sum: (i64, u64) = (0, 0);
    let mut add = |(bytes, inodes): (i64, u64)| sum = (sum.0.saturating_add(bytes), sum.1 + inodes);
    let logs = pod.map(|pod| ctx.log_dir(pod));
    if let Some(Value::Array(containers)) = fields.get_mut("containers") {
        for (shown, stats) in containers.iter_mut().zip(&usage.containers) {
            let Value::Object(shown) = shown else { continue };
            if let Some(layer) = &stats.writable_layer {
                let bytes = layer.used_bytes.as_ref().and_then(|used| i64::try_from(used.value).ok());
                let used = (bytes.unwrap_or(0), layer.inodes_used.as_ref().map_or(0, |used| used.value));
                add(used);
                shown.extend(on_disk(&images, Some(used)).map(|fields| ("rootfs".to_owned(), fields.into())));
            }
            if let Some(logs) = &logs {
                let dir = logs.join(container_name(stats));
                let used = tree_usage(&dir);
                add(used);
                shown.extend(on_disk(&dir, Some(used)).map(|fields| ("logs".to_owned(), fields.into())));
            }
        }
    }
    let Some(pod) = pod else { return };
    if let Some(at) = pod.status.as_ref().and_then(|status| status.start_time.as_ref()) {
        fields.insert("startTime".into(), json!(time(at.0)));
    }
    let mut shown = Vec::new();
    for volume in pod.pod_spec().volumes.iter().flatten() {
        let Some((path, own)) = volume_path(ctx, pod, volume) else { continue };
        let stats = if own {
            let used = tree_usage(&path);
            add(used);
            on_disk(&path, Some(used))
        } else {
            fullness::of(&path).map(|disk| figures(&disk, None))
        };
        let Some(mut stats) = stats else { continue };
        if let Some(told) = spec_name(&path).and_then(|name| told.get(&(usage.uid.clone(), name))) {
            tell(&mut stats, told);
        }
        stats.insert("name".into(), json!(volume.name));
        if let Some(claim) = volumes::claim_name(pod, volume) {
            stats.insert("pvcRef".into(), json!({"name": claim, "namespace": pod.namespace()}));
        }
        shown.push(Value::Object(stats));
    }
    if !shown.is_empty() {
        fields.insert("volume".into(), Value::Array(shown));
    }
    if let Some(ephemeral) = on_disk(&ctx.options.root_dir, Some(sum)) {
        fields.insert("ephemeral-storage".into(), Value::Object(ephemeral));
    }
}

/// The name that a driver's volume has on disk: `.../<name>/mount`.
fn spec_name(path: &Path) -> Option<String> {
    Some(path.parent()?.file_name()?.to_string_lossy().into_owned())
}

/// What the volume's driver says, over what its file system does.
fn tell(stats: &mut Map<String, Value>, told: &csi::stats::Usage) {
    let mut put = |names: [&str; 3], measure: &csi::stats::Measure| {
        for (name, value) in names.into_iter().zip([measure.available, measure.total, measure.used]) {
            stats.insert(name.to_owned(), json!(value));
        }
    };
    if let Some(bytes) = &told.bytes {
        put(["availableBytes", "capacityBytes", "usedBytes"], bytes);
    }
    if let Some(inodes) = &told.inodes {
        put(["inodesFree", "inodes", "inodesUsed"], inodes);
    }
}

/// Where a volume is, and whether what is in it belongs to the pod and is on the node's disk.
fn volume_path(
    ctx: &Context,
    pod: &Pod,
    volume: &k8s_openapi::api::core::v1::Volume,
) -> Option<(PathBuf, bool)> {
    let dir = ctx.pod_dir(pod.uid()).join("volumes");
    let own = |kind: &str| Some((dir.join(kind).join(&volume.name), true));
    if volume.empty_dir.is_some() {
        return own("kubernetes.io~empty-dir");
    }
    if volume.config_map.is_some() {
        return own("kubernetes.io~configmap");
    }
    if volume.secret.is_some() {
        return own("kubernetes.io~secret");
    }
    if volume.downward_api.is_some() {
        return own("kubernetes.io~downward-api");
    }
    if volume.projected.is_some() {
        return own("kubernetes.io~projected");
    }
    let mounted = ctx.mounted.lock();
    let path = mounted.get(&(pod.uid().to_owned(), volume.name.clone()))?.clone();
    Some((path, false))
}

fn node(ctx: &Context, rates: &Rates, only_cpu_and_memory: bool) -> Value {
    let now = Timestamp::now();
    let used = node_cpu_nanoseconds();
    let mut fields = json!({
        "nodeName": ctx.options.node_name,
        "startTime": booted_at().map(time),
        "cpu": {
            "time": time(now),
            "usageNanoCores": used.and_then(|used| rates.of("node", nanoseconds(now), used)),
            "usageCoreNanoSeconds": used,
        },
        "memory": {
            "time": time(now),
            "availableBytes": meminfo("MemAvailable:"),
            "usageBytes": meminfo("MemTotal:").zip(meminfo("MemFree:")).map(|(total, free)| total - free),
            "workingSetBytes": node_working_set(),
            "rssBytes": meminfo("AnonPages:"),
            "pageFaults": vmstat("pgfault"),
            "majorPageFaults": vmstat("pgmajfault"),
        },
        "systemContainers": [own_usage(rates, now)],
    });
    for what in ["cpu", "memory", "io"] {
        let Some(psi) = pressure::of_node(what) else { continue };
        if fields[what].is_null() {
            fields[what] = json!({"time": time(now)});
        }
        fields[what]["psi"] = psi;
    }
    if only_cpu_and_memory {
        return fields;
    }
    let images = ctx.image_fs.lock().clone().unwrap_or_else(|| ctx.options.root_dir.clone());
    let image_fs = on_disk(&images, None);
    let more = json!({
        "fs": on_disk(&ctx.options.root_dir, None),
        "runtime": {"imageFs": image_fs, "containerFs": image_fs},
        "rlimit": {"time": time(now), "maxpid": read_number("/proc/sys/kernel/pid_max"), "curproc": processes()},
        "swap": {
            "time": time(now),
            "swapAvailableBytes": meminfo("SwapFree:"),
            "swapUsageBytes": meminfo("SwapTotal:").zip(meminfo("SwapFree:")).map(|(total, free)| total - free),
        },
        "network": network(now),
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

/// Ticks of `/proc/self/stat` in a second: fixed by the kernel's interface.
const USER_HZ: u64 = 100;

/// What this process uses: the kubelet, and whatever else runs in it.
fn own_usage(rates: &Rates, now: Timestamp) -> Value {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| after_name.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    // utime and stime, the 14th and 15th of all.
    let used = (field(11) + field(12)).saturating_mul(1_000_000_000 / USER_HZ);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    let resident = kib.map(|kib| kib * 1024);
    json!({
        "name": "kubelet",
        "cpu": {
            "time": time(now),
            "usageNanoCores": rates.of("kubelet", nanoseconds(now), used),
            "usageCoreNanoSeconds": used,
        },
        "memory": {
            "time": time(now),
            "usageBytes": resident,
            "workingSetBytes": resident,
            "rssBytes": resident,
            "pageFaults": field(7),
            "majorPageFaults": field(9),
        },
    })
}

fn booted_at() -> Option<Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

fn vmstat(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.parse().ok()
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The threads of the machine, from `/proc/loadavg`: running/all.
fn processes() -> Option<u64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

fn network(now: Timestamp) -> Value {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let one = |line: &str| -> Option<Value> {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let count = |index: usize| counts.get(index).copied();
        let name = name.trim();
        (name != "lo").then(|| {
            json!({"name": name, "rxBytes": count(0), "rxErrors": count(2), "txBytes": count(8), "txErrors": count(10)})
        })
    };
    let interfaces: Vec<Value> = text.lines().skip(2).filter_map(one).collect();
    let default = default_interface();
    let mut first = interfaces
        .iter()
        .find(|shown| shown.get("name").and_then(Value::as_str) == default.as_deref())
        .cloned();
    let mut fields = match first.take() {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.insert("time".into(), json!(time(now)));
    fields.insert("interfaces".into(), Value::Array(interfaces));
    Value::Object(fields)
}

/// The one that the default route leaves by.
fn default_interface() -> Option<String> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let mut routes = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let default = routes.find(|route| route.get(1) == Some(&"00000000"))?;
    default.first().map(|name| (*name).to_owned())
}
