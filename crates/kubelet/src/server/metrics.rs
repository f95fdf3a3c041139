//! `/metrics`, `/metrics/resource` and `/metrics/cadvisor`, in Prometheus' text form, by upstream's names.

use std::fmt::Write;

use http::{Response, StatusCode, header};
use k8s_cri::v1 as cri;

use super::stats::{
    PodUsage, container_name, cpu_nanoseconds, node_cpu_nanoseconds, node_working_set, pod_cpu, pod_memory,
    pods, working_set,
};
use super::{Body, text};
use crate::context::Context;

/// Lines of metrics being written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{key}=\"{value}\"")
            })
            .collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn answer(self) -> Response<Body> {
        let mut response = text(StatusCode::OK, self.0);
        let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

// Exact up to 2^53, which is what the text form's readers have, too.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

pub async fn kubelet(ctx: &Context) -> Response<Body> {
    let mut page = Page::default();
    page.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    page.sample("kubelet_node_name", &[("node", &ctx.options.node_name)], 1.0);
    let list = ctx.cri.list_containers(cri::ListContainersRequest::default()).await;
    if let Ok(list) = list {
        page.family("kubelet_running_containers", "gauge", "Number of containers currently running");
        for (state, name) in [
            (cri::ContainerState::ContainerCreated, "created"),
            (cri::ContainerState::ContainerRunning, "running"),
            (cri::ContainerState::ContainerExited, "exited"),
            (cri::ContainerState::ContainerUnknown, "unknown"),
        ] {
            let count = list.containers.iter().filter(|container| container.state == state as i32).count();
            page.sample("kubelet_running_containers", &[("container_state", name)], float(count as u64));
        }
    }
    let list = ctx.cri.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await;
    if let Ok(list) = list {
        let ready = |sandbox: &&cri::PodSandbox| sandbox.state == cri::PodSandboxState::SandboxReady as i32;
        let count = list.items.iter().filter(ready).count();
        page.family("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox");
        page.sample("kubelet_running_pods", &[], float(count as u64));
    }
    page.family("kubelet_desired_pods", "gauge", "The number of pods the kubelet is being instructed to run");
    page.sample("kubelet_desired_pods", &[], float(ctx.pods.len() as u64));
    page.answer()
}

pub async fn resource(ctx: &Context) -> Response<Body> {
    let mut page = Page::default();
    let usages = pods(ctx).await;
    let failed = usages.is_err();
    let usages = usages.unwrap_or_default();
    page.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    );
    if let Some(used) = node_cpu_nanoseconds() {
        page.sample("node_cpu_usage_seconds_total", &[], seconds(used));
    }
    page.family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
    if let Some(used) = node_working_set().and_then(|used| u64::try_from(used).ok()) {
        page.sample("node_memory_working_set_bytes", &[], float(used));
    }
    containers(
        &mut page,
        &usages,
        (
            "container_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the container in core-seconds",
        ),
        |stats| cpu_nanoseconds(stats.cpu.as_ref()).map(seconds),
    );
    containers(
        &mut page,
        &usages,
        ("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes"),
        |stats| working_set(stats.memory.as_ref()).map(float),
    );
    page.family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    );
    for pod in &usages {
        if let Some(used) = pod_cpu(pod) {
            page.sample("pod_cpu_usage_seconds_total", &pod_labels(pod), seconds(used));
        }
    }
    page.family("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
    for pod in &usages {
        if let Some(used) = pod_memory(pod) {
            page.sample("pod_memory_working_set_bytes", &pod_labels(pod), float(used));
        }
    }
    page.family(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    page.sample("resource_scrape_error", &[], if failed { 1.0 } else { 0.0 });
    page.answer()
}

fn pod_labels(pod: &PodUsage) -> [(&'static str, &str); 2] {
    [("namespace", &pod.namespace), ("pod", &pod.name)]
}

fn containers(
    page: &mut Page,
    usages: &[PodUsage],
    (name, kind, help): (&str, &str, &str),
    value: impl Fn(&cri::ContainerStats) -> Option<f64>,
) {
    page.family(name, kind, help);
    for pod in usages {
        for stats in &pod.containers {
            if let Some(value) = value(stats) {
                let container = container_name(stats);
                let labels =
                    [("container", container.as_str()), ("namespace", &pod.namespace), ("pod", &pod.name)];
                page.sample(name, &labels, value);
            }
        }
    }
}

/// The part of cAdvisor's metrics that dashboards are built on and CRI knows.
pub async fn cadvisor(ctx: &Context) -> Response<Body> {
    let mut page = Page::default();
    let usages = pods(ctx).await.unwrap_or_default();
    containers(
        &mut page,
        &usages,
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds."),
        |stats| cpu_nanoseconds(stats.cpu.as_ref()).map(seconds),
    );
    containers(
        &mut page,
        &usages,
        ("container_memory_working_set_bytes", "gauge", "Current working set in bytes."),
        |stats| working_set(stats.memory.as_ref()).map(float),
    );
    containers(&mut page, &usages, ("container_memory_rss", "gauge", "Size of RSS in bytes."), |stats| {
        stats.memory.as_ref()?.rss_bytes.as_ref().map(|bytes| float(bytes.value))
    });
    containers(
        &mut page,
        &usages,
        (
            "container_fs_usage_bytes",
            "gauge",
            "Number of bytes that are consumed by the container on this filesystem.",
        ),
        |stats| stats.writable_layer.as_ref()?.used_bytes.as_ref().map(|bytes| float(bytes.value)),
    );
    page.answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.sample("a", &[("l", "x\"\\\n")], 1.5);
        page.sample("b", &[], 2.0);
        assert_eq!(page.0, "a{l=\"x\\\"\\\\\\n\"} 1.5\nb 2\n");
    }
}
