//! `/stats/summary`: what pods and the node use, from CRI and `/proc`, in upstream's `Summary` form.

use std::collections::HashMap;
use std::fs;

use http::{Response, StatusCode};
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use serde_json::{Map, Value, json};

use super::{Body, error, json as json_answer};
use crate::context::Context;
use crate::cri::CriError;
use crate::cri::view::keys;
use crate::node::machine_info::meminfo;

/// Usage of one pod: the pod's own figures where the runtime has them, and its containers'.
pub struct PodUsage {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub whole: Option<cri::LinuxPodSandboxStats>,
    pub containers: Vec<cri::ContainerStats>,
}

/// Asks the runtime: by pod if it knows how, else by container.
pub async fn pods(ctx: &Context) -> Result<Vec<PodUsage>, CriError> {
    let by_pod = ctx.cri.list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest::default()).await;
    match by_pod {
        Ok(answer) => {
            let usages = answer.stats.into_iter().filter_map(|stats| {
                let metadata = stats.attributes?.metadata?;
                let linux = stats.linux.unwrap_or_default();
                Some(PodUsage {
                    namespace: metadata.namespace,
                    name: metadata.name,
                    uid: metadata.uid,
                    containers: linux.containers.clone(),
                    whole: Some(linux),
                })
            });
            Ok(usages.collect())
        }
        Err(error) if error.code == tonic::Code::Unimplemented => by_container(ctx).await,
        Err(error) => Err(error),
    }
}

async fn by_container(ctx: &Context) -> Result<Vec<PodUsage>, CriError> {
    let answer = ctx.cri.list_container_stats(cri::ListContainerStatsRequest::default()).await?;
    let mut pods: HashMap<String, PodUsage> = HashMap::new();
    for stats in answer.stats {
        let Some(attributes) = &stats.attributes else { continue };
        let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
        let uid = label(keys::POD_UID);
        let pod = pods.entry(uid.clone()).or_insert_with(|| PodUsage {
            namespace: label(keys::POD_NAMESPACE),
            name: label(keys::POD_NAME),
            uid,
            whole: None,
            containers: Vec::new(),
        });
        pod.containers.push(stats);
    }
    Ok(pods.into_values().collect())
}

pub fn cpu_nanoseconds(cpu: Option<&cri::CpuUsage>) -> Option<u64> {
    Some(cpu?.usage_core_nano_seconds.as_ref()?.value)
}

pub fn working_set(memory: Option<&cri::MemoryUsage>) -> Option<u64> {
    Some(memory?.working_set_bytes.as_ref()?.value)
}

/// Of the pod as a whole, else the sum of its containers.
pub fn pod_cpu(pod: &PodUsage) -> Option<u64> {
    let whole = cpu_nanoseconds(pod.whole.as_ref().and_then(|whole| whole.cpu.as_ref()));
    whole.or_else(|| pod.containers.iter().map(|stats| cpu_nanoseconds(stats.cpu.as_ref())).sum())
}

/// The working set of the pod as a whole, else the sum of its containers'.
pub fn pod_memory(pod: &PodUsage) -> Option<u64> {
    let whole = working_set(pod.whole.as_ref().and_then(|whole| whole.memory.as_ref()));
    whole.or_else(|| pod.containers.iter().map(|stats| working_set(stats.memory.as_ref())).sum())
}

pub fn container_name(stats: &cri::ContainerStats) -> String {
    let metadata = stats.attributes.as_ref().and_then(|attributes| attributes.metadata.as_ref());
    metadata.map(|metadata| metadata.name.clone()).unwrap_or_default()
}

fn time(nanoseconds: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn number(into: &mut Map<String, Value>, name: &str, value: Option<&cri::UInt64Value>) {
    if let Some(value) = value {
        into.insert(name.to_owned(), json!(value.value));
    }
}

fn cpu(usage: &cri::CpuUsage) -> Value {
    let mut fields = Map::new();
    fields.insert("time".into(), json!(time(usage.timestamp)));
    number(&mut fields, "usageNanoCores", usage.usage_nano_cores.as_ref());
    number(&mut fields, "usageCoreNanoSeconds", usage.usage_core_nano_seconds.as_ref());
    Value::Object(fields)
}

fn memory(usage: &cri::MemoryUsage) -> Value {
    let mut fields = Map::new();
    fields.insert("time".into(), json!(time(usage.timestamp)));
    number(&mut fields, "availableBytes", usage.available_bytes.as_ref());
    number(&mut fields, "usageBytes", usage.usage_bytes.as_ref());
    number(&mut fields, "workingSetBytes", usage.working_set_bytes.as_ref());
    number(&mut fields, "rssBytes", usage.rss_bytes.as_ref());
    number(&mut fields, "pageFaults", usage.page_faults.as_ref());
    number(&mut fields, "majorPageFaults", usage.major_page_faults.as_ref());
    Value::Object(fields)
}

fn container(stats: &cri::ContainerStats) -> Value {
    let mut fields = Map::new();
    fields.insert("name".into(), json!(container_name(stats)));
    if let Some(usage) = &stats.cpu {
        fields.insert("cpu".into(), cpu(usage));
    }
    if let Some(usage) = &stats.memory {
        fields.insert("memory".into(), memory(usage));
    }
    if let Some(layer) = &stats.writable_layer {
        let mut root = Map::new();
        root.insert("time".into(), json!(time(layer.timestamp)));
        number(&mut root, "usedBytes", layer.used_bytes.as_ref());
        number(&mut root, "inodesUsed", layer.inodes_used.as_ref());
        fields.insert("rootfs".into(), Value::Object(root));
    }
    Value::Object(fields)
}

fn pod(usage: &PodUsage) -> Value {
    let mut fields = Map::new();
    fields
        .insert("podRef".into(), json!({"name": usage.name, "namespace": usage.namespace, "uid": usage.uid}));
    let containers: Vec<Value> = usage.containers.iter().map(container).collect();
    fields.insert("containers".into(), Value::Array(containers));
    let whole = usage.whole.as_ref();
    if let Some(usage) = whole.and_then(|whole| whole.cpu.as_ref()) {
        fields.insert("cpu".into(), cpu(usage));
    }
    if let Some(usage) = whole.and_then(|whole| whole.memory.as_ref()) {
        fields.insert("memory".into(), memory(usage));
    }
    if let Some(network) = whole.and_then(|whole| whole.network.as_ref())
        && let Some(interface) = &network.default_interface
    {
        let mut net = Map::new();
        net.insert("time".into(), json!(time(network.timestamp)));
        net.insert("name".into(), json!(interface.name));
        number(&mut net, "rxBytes", interface.rx_bytes.as_ref());
        number(&mut net, "rxErrors", interface.rx_errors.as_ref());
        number(&mut net, "txBytes", interface.tx_bytes.as_ref());
        number(&mut net, "txErrors", interface.tx_errors.as_ref());
        fields.insert("network".into(), Value::Object(net));
    }
    if let Some(processes) = whole.and_then(|whole| whole.process.as_ref()) {
        let mut stats = Map::new();
        number(&mut stats, "process_count", processes.process_count.as_ref());
        fields.insert("process_stats".into(), Value::Object(stats));
    }
    Value::Object(fields)
}

/// Ticks of `/proc/stat` in a second: fixed by the kernel's interface.
const USER_HZ: u64 = 100;

/// CPU nanoseconds that the whole machine has used since it started, from `/proc/stat`.
pub fn node_cpu_nanoseconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy: u64 = ticks.iter().take(8).sum::<u64>() - ticks.get(3)? - ticks.get(4)?;
    Some(busy.saturating_mul(1_000_000_000 / USER_HZ))
}

/// What cannot be given back at once: all but the free, and the cache that is.
pub fn node_working_set() -> Option<i64> {
    Some(meminfo("MemTotal:")? - meminfo("MemAvailable:")?)
}

pub async fn summary(ctx: &Context) -> Response<Body> {
    let usages = match pods(ctx).await {
        Ok(usages) => usages,
        Err(problem) => return error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    };
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let disk = rustix::fs::statvfs(&ctx.options.root_dir).ok();
    let fs = disk.map(|disk| {
        json!({
            "time": now,
            "availableBytes": disk.f_bavail.saturating_mul(disk.f_frsize),
            "capacityBytes": disk.f_blocks.saturating_mul(disk.f_frsize),
            "usedBytes": disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize),
            "inodesFree": disk.f_favail,
            "inodes": disk.f_files,
        })
    });
    json_answer(&json!({
        "node": {
            "nodeName": ctx.options.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": node_cpu_nanoseconds()},
            "memory": {
                "time": now,
                "availableBytes": meminfo("MemAvailable:"),
                "workingSetBytes": node_working_set(),
            },
            "fs": fs,
        },
        "pods": usages.iter().map(pod).collect::<Vec<Value>>(),
    }))
}
