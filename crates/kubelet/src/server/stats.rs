//! What pods and the node use, from CRI and `/proc`: the figures behind `/stats/summary` and the metrics.

use std::collections::HashMap;
use std::fs;

use k8s_cri::v1 as cri;

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
                    containers: latest(linux.containers.clone()),
                    whole: Some(linux),
                })
            });
            Ok(usages.collect())
        }
        // Some know how, but not while one of their pods ends.
        Err(_) => by_container(ctx).await,
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
    let latest = |pod: PodUsage| PodUsage { containers: latest(pod.containers), ..pod };
    Ok(pods.into_values().map(latest).collect())
}

/// Of containers that were started again the last one: the others are over, and kept for their logs.
fn latest(containers: Vec<cri::ContainerStats>) -> Vec<cri::ContainerStats> {
    let attempt = |stats: &cri::ContainerStats| {
        let metadata = stats.attributes.as_ref().and_then(|attributes| attributes.metadata.as_ref());
        metadata.map_or(0, |metadata| metadata.attempt)
    };
    let mut found: Vec<cri::ContainerStats> = Vec::with_capacity(containers.len());
    for stats in containers {
        let name = container_name(&stats);
        match found.iter_mut().find(|known| container_name(known) == name) {
            Some(known) if attempt(known) < attempt(&stats) => *known = stats,
            Some(_) => {}
            None => found.push(stats),
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_restarted_containers_the_last_is_told() {
        let stats = |name: &str, attempt: u32| cri::ContainerStats {
            attributes: Some(cri::ContainerAttributes {
                metadata: Some(cri::ContainerMetadata { name: name.into(), attempt }),
                id: format!("{name}{attempt}"),
                ..Default::default()
            }),
            ..Default::default()
        };
        let all = vec![stats("a", 1), stats("b", 0), stats("a", 2), stats("a", 0)];
        let ids: Vec<String> =
            latest(all).into_iter().filter_map(|stats| Some(stats.attributes?.id)).collect();
        assert_eq!(ids, ["a2", "b0"]);
    }
}
