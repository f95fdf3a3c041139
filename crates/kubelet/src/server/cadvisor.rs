//! `/metrics/cadvisor`: the part of cAdvisor's metrics that dashboards are built on and CRI knows, with its labels.

use std::collections::BTreeMap;

use exposition::{Page, float};
use http::Response;
use k8s_cri::v1 as cri;

use super::Body;
use super::metrics::{answer, seconds};
use super::stats::{PodUsage, container_name, cpu_nanoseconds, pods, working_set};
use crate::context::Context;

type Value = fn(&cri::ContainerStats) -> Option<f64>;

fn number(value: Option<&cri::UInt64Value>) -> Option<f64> {
    value.map(|value| float(value.value))
}

/// Name, kind, help, and the figure of one container.
const OF_CONTAINERS: [(&str, &str, &str, Value); 10] = [
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |stats| {
        cpu_nanoseconds(stats.cpu.as_ref()).map(seconds)
    }),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |stats| {
        working_set(stats.memory.as_ref()).map(float)
    }),
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes.", |stats| {
        number(stats.memory.as_ref()?.usage_bytes.as_ref())
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |stats| {
        number(stats.memory.as_ref()?.rss_bytes.as_ref())
    }),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", |stats| {
        let memory = stats.memory.as_ref()?;
        Some((number(memory.usage_bytes.as_ref())? - number(memory.rss_bytes.as_ref())?).max(0.0))
    }),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", |stats| {
        number(stats.swap.as_ref()?.swap_usage_bytes.as_ref())
    }),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        |stats| number(stats.writable_layer.as_ref()?.used_bytes.as_ref()),
    ),
    ("container_fs_inodes_total", "gauge", "Number of Inodes", |stats| {
        number(stats.writable_layer.as_ref()?.inodes_used.as_ref())
    }),
    (
        "container_memory_failures_total",
        "counter",
        "Cumulative count of memory allocation failures.",
        |stats| number(stats.memory.as_ref()?.page_faults.as_ref()),
    ),
    ("container_last_seen", "gauge", "Last time a container was seen by the exporter", |stats| {
        let at = u64::try_from(stats.cpu.as_ref()?.timestamp).ok()?;
        Some(seconds(at))
    }),
];

type Network = fn(&cri::NetworkInterfaceUsage) -> Option<f64>;

const OF_NETWORKS: [(&str, &str, Network); 4] = [
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", |usage| {
        number(usage.rx_bytes.as_ref())
    }),
    (
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |usage| number(usage.rx_errors.as_ref()),
    ),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |usage| {
        number(usage.tx_bytes.as_ref())
    }),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |usage| number(usage.tx_errors.as_ref()),
    ),
];

pub async fn handle(ctx: &Context) -> Response<Body> {
    let mut page = Page::default();
    let usages = pods(ctx).await;
    of_machine(ctx, &mut page, usages.is_err());
    let usages = usages.unwrap_or_default();
    let images = images_of(ctx).await;
    for (name, kind, help, value) in OF_CONTAINERS {
        page.family(name, kind, help);
        for pod in &usages {
            for stats in &pod.containers {
                let Some(value) = value(stats) else { continue };
                let container = container_name(stats);
                let id = stats.attributes.as_ref().map(|known| known.id.as_str()).unwrap_or_default();
                let image = images.get(id).map(String::as_str).unwrap_or_default();
                let mut labels = vec![
                    ("container", container.as_str()),
                    ("id", id),
                    ("image", image),
                    ("name", id),
                    ("namespace", &pod.namespace),
                    ("pod", &pod.name),
                ];
                if name == "container_memory_failures_total" {
                    labels.extend([("failure_type", "pgfault"), ("scope", "container")]);
                }
                page.sample(name, &labels, value);
            }
        }
    }
    of_pods(&mut page, &usages);
    let own: Vec<&str> = OF_CONTAINERS.iter().map(|(name, ..)| *name).chain(OWN).collect();
    of_runtime(ctx, &mut page, &own).await;
    answer(page)
}

fn of_machine(ctx: &Context, page: &mut Page, failed: bool) {
    let machine = &ctx.machine;
    let labels = [
        ("cadvisorRevision", ""),
        ("cadvisorVersion", ""),
        ("dockerVersion", ""),
        ("kernelVersion", machine.kernel_version.as_str()),
        ("osVersion", machine.os_image.as_str()),
    ];
    let help = "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.";
    page.family("cadvisor_version_info", "gauge", help);
    page.sample("cadvisor_version_info", &labels, 1.0);
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    page.family("container_scrape_error", "gauge", help);
    page.sample("container_scrape_error", &[], if failed { 1.0 } else { 0.0 });
    let ids = [
        ("boot_id", machine.boot_id.as_str()),
        ("machine_id", &machine.machine_id),
        ("system_uuid", &machine.system_uuid),
    ];
    for (name, help, value) in [
        ("machine_cpu_cores", "Number of logical CPU cores.", machine.cpus),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", machine.memory),
        ("machine_swap_bytes", "Amount of swap memory available on the machine.", machine.swap),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &ids, float(u64::try_from(value).unwrap_or(0)));
    }
    page.family(
        "machine_scrape_error",
        "gauge",
        "1 if there was an error while getting machine metrics, 0 otherwise.",
    );
    page.sample("machine_scrape_error", &[], 0.0);
}

fn of_pods(page: &mut Page, usages: &[PodUsage]) {
    for (name, help, value) in OF_NETWORKS {
        page.family(name, "counter", help);
        for pod in usages {
            let network = pod.whole.as_ref().and_then(|whole| whole.network.as_ref());
            let interfaces = network
                .into_iter()
                .flat_map(|network| network.default_interface.iter().chain(&network.interfaces));
            for interface in interfaces {
                let Some(value) = value(interface) else { continue };
                let labels = [
                    ("interface", interface.name.as_str()),
                    ("namespace", &pod.namespace),
                    ("pod", &pod.name),
                ];
                page.sample(name, &labels, value);
            }
        }
    }
    page.family("container_processes", "gauge", "Number of processes running inside the container.");
    for pod in usages {
        let processes = pod.whole.as_ref().and_then(|whole| whole.process.as_ref());
        if let Some(count) = processes.and_then(|processes| number(processes.process_count.as_ref())) {
            page.sample("container_processes", &[("namespace", &pod.namespace), ("pod", &pod.name)], count);
        }
    }
}

/// What is told above besides [`OF_CONTAINERS`], and finer than the runtime's whole numbers.
const OWN: [&str; 5] = [
    "container_network_receive_bytes_total",
    "container_network_receive_errors_total",
    "container_network_transmit_bytes_total",
    "container_network_transmit_errors_total",
    "container_processes",
];

/// What the runtime tells beyond that, by cAdvisor's names; nothing from one that has no metrics.
async fn of_runtime(ctx: &Context, page: &mut Page, own: &[&str]) {
    let described = ctx.cri.list_metric_descriptors(cri::ListMetricDescriptorsRequest {}).await;
    let pods = ctx.cri.list_pod_sandbox_metrics(cri::ListPodSandboxMetricsRequest {}).await;
    let (Ok(described), Ok(pods)) = (described, pods) else { return };
    let mut families: BTreeMap<&str, Vec<&cri::Metric>> = BTreeMap::new();
    for pod in &pods.pod_metrics {
        let containers = pod.container_metrics.iter().flat_map(|container| &container.metrics);
        for metric in pod.metrics.iter().chain(containers) {
            families.entry(&metric.name).or_default().push(metric);
        }
    }
    for descriptor in described.descriptors.iter().filter(|known| !own.contains(&known.name.as_str())) {
        let Some(metrics) = families.get(descriptor.name.as_str()) else { continue };
        let counter = metrics.first().is_some_and(|one| one.metric_type == cri::MetricType::Counter as i32);
        let help = descriptor.help.replace('\n', " ");
        page.family(&descriptor.name, if counter { "counter" } else { "gauge" }, &help);
        for metric in metrics {
            let keys = descriptor.label_keys.iter().map(String::as_str);
            let labels: Vec<(&str, &str)> =
                keys.zip(metric.label_values.iter().map(String::as_str)).collect();
            page.sample(&descriptor.name, &labels, number(metric.value.as_ref()).unwrap_or(0.0));
        }
    }
}

/// The images of running containers, by their IDs.
async fn images_of(ctx: &Context) -> std::collections::HashMap<String, String> {
    let list = ctx.cri.list_containers(cri::ListContainersRequest::default()).await;
    let containers = list.map(|list| list.containers).unwrap_or_default();
    let image = |container: cri::Container| {
        let image = container.image.map(|image| image.user_specified_image).unwrap_or_default();
        (container.id, if image.is_empty() { container.image_ref } else { image })
    };
    containers.into_iter().map(image).collect()
}
