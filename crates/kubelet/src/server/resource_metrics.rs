//! `/metrics/resource`: what metrics servers read. Each figure carries the time at which it was taken.

use std::collections::HashMap;

use exposition::{Page, float};
use http::Response;
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::Body;
use super::metrics::{answer, seconds};
use super::stats::{
    PodUsage, container_name, cpu_nanoseconds, node_cpu_nanoseconds, node_working_set, pod_cpu, pod_memory,
    pods, working_set,
};
use crate::context::Context;
use crate::pod::ext::PodExt;

/// A figure, and when it was taken, in nanoseconds.
type Taken = (f64, i64);

/// Name, kind, help.
type Family = (&'static str, &'static str, &'static str);

const CONTAINER_CPU: Family = (
    "container_cpu_usage_seconds_total",
    "counter",
    "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
);
const CONTAINER_MEMORY: Family =
    ("container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes");
const CONTAINER_SWAP: Family =
    ("container_swap_usage_bytes", "gauge", "[ALPHA] Current amount of the container swap usage in bytes");
const CONTAINER_START: Family = (
    "container_start_time_seconds",
    "gauge",
    "[STABLE] Start time of the container since unix epoch in seconds",
);
const POD_CPU: Family = (
    "pod_cpu_usage_seconds_total",
    "counter",
    "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
);
const POD_MEMORY: Family =
    ("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes");
const NODE_CPU: Family = (
    "node_cpu_usage_seconds_total",
    "counter",
    "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
);
const NODE_MEMORY: Family =
    ("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes");

fn family(page: &mut Page, (name, kind, help): Family) {
    page.family(name, kind, help);
}

fn sample(page: &mut Page, (name, ..): Family, labels: &[(&str, &str)], (value, at): Taken) {
    page.sample_at(name, labels, value, Some(at / 1_000_000));
}

pub async fn handle(ctx: &Context) -> Response<Body> {
    let mut page = Page::default();
    let usages = pods(ctx).await;
    let failed = usages.is_err();
    let usages = usages.unwrap_or_default();
    let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    family(&mut page, NODE_CPU);
    if let Some(used) = node_cpu_nanoseconds() {
        sample(&mut page, NODE_CPU, &[], (seconds(used), now));
    }
    family(&mut page, NODE_MEMORY);
    if let Some(used) = node_working_set().and_then(|used| u64::try_from(used).ok()) {
        sample(&mut page, NODE_MEMORY, &[], (float(used), now));
    }
    containers(&mut page, &usages, CONTAINER_CPU, |_, stats| {
        let cpu = stats.cpu.as_ref()?;
        Some((seconds(cpu_nanoseconds(Some(cpu))?), cpu.timestamp))
    });
    containers(&mut page, &usages, CONTAINER_MEMORY, |_, stats| {
        let memory = stats.memory.as_ref()?;
        Some((float(working_set(Some(memory))?), memory.timestamp))
    });
    containers(&mut page, &usages, CONTAINER_SWAP, |_, stats| {
        let swap = stats.swap.as_ref()?;
        Some((float(swap.swap_usage_bytes.as_ref()?.value), swap.timestamp))
    });
    let started = started(&ctx.pods.list());
    containers(&mut page, &usages, CONTAINER_START, |pod, stats| {
        let key = (pod.namespace.clone(), pod.name.clone(), container_name(stats));
        Some((*started.get(&key)?, stats.cpu.as_ref().map_or(now, |cpu| cpu.timestamp)))
    });
    of_pods(&mut page, &usages, POD_CPU, now, |pod| pod_cpu(pod).map(seconds));
    of_pods(&mut page, &usages, POD_MEMORY, now, |pod| pod_memory(pod).map(float));
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    page.family("resource_scrape_error", "gauge", help);
    page.sample("resource_scrape_error", &[], if failed { 1.0 } else { 0.0 });
    answer(page)
}

fn of_pods(
    page: &mut Page,
    usages: &[PodUsage],
    what: Family,
    now: i64,
    value: impl Fn(&PodUsage) -> Option<f64>,
) {
    family(page, what);
    for pod in usages {
        let Some(value) = value(pod) else { continue };
        let at = pod.whole.as_ref().and_then(|whole| whole.cpu.as_ref()).map_or(now, |cpu| cpu.timestamp);
        sample(page, what, &[("namespace", &pod.namespace), ("pod", &pod.name)], (value, at));
    }
}

fn containers(
    page: &mut Page,
    usages: &[PodUsage],
    what: Family,
    value: impl Fn(&PodUsage, &cri::ContainerStats) -> Option<Taken>,
) {
    family(page, what);
    for pod in usages {
        for stats in &pod.containers {
            let Some(taken) = value(pod, stats) else { continue };
            let container = container_name(stats);
            let labels =
                [("container", container.as_str()), ("namespace", &pod.namespace), ("pod", &pod.name)];
            sample(page, what, &labels, taken);
        }
    }
}

/// When running containers started, by namespace, pod and name.
fn started(pods: &[std::sync::Arc<Pod>]) -> HashMap<(String, String, String), f64> {
    let mut started = HashMap::new();
    for pod in pods {
        let Some(status) = &pod.status else { continue };
        let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let at = |status: &ContainerStatus| {
            let running = status.state.as_ref()?.running.as_ref()?;
            Some(running.started_at.as_ref()?.0.as_second())
        };
        for (status, at) in all.filter_map(|status| Some((status, at(status)?))) {
            let key = (pod.namespace().to_owned(), pod.name().to_owned(), status.name.clone());
            started.insert(key, float(u64::try_from(at).unwrap_or(0)));
        }
    }
    started
}
