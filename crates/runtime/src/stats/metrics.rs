//! The same numbers as metrics, by cAdvisor's names: ListMetricDescriptors and ListPodSandboxMetrics.

use k8s_cri::v1::{
    ContainerMetrics, ContainerStats, Metric, MetricDescriptor, MetricType, PodSandboxMetrics, UInt64Value,
};

use crate::state::Runtime;

/// What is counted of a container: name, kind, help.
type Described = (&'static str, MetricType, &'static str);

const SECOND: u64 = 1_000_000_000;

const CONTAINER: [(Described, fn(&ContainerStats) -> Option<u64>); 8] = [
    (
        (
            "container_cpu_usage_seconds_total",
            MetricType::Counter,
            "Cumulative cpu time consumed in seconds.",
        ),
        |s| Some(s.cpu.as_ref()?.usage_core_nano_seconds.as_ref()?.value / SECOND),
    ),
    (("container_memory_usage_bytes", MetricType::Gauge, "Current memory usage in bytes."), |s| {
        Some(s.memory.as_ref()?.usage_bytes.as_ref()?.value)
    }),
    (("container_memory_working_set_bytes", MetricType::Gauge, "Current working set in bytes."), |s| {
        Some(s.memory.as_ref()?.working_set_bytes.as_ref()?.value)
    }),
    (("container_memory_rss", MetricType::Gauge, "Size of RSS in bytes."), |s| {
        Some(s.memory.as_ref()?.rss_bytes.as_ref()?.value)
    }),
    (
        ("container_memory_failures_total", MetricType::Counter, "Cumulative count of major page faults."),
        |s| Some(s.memory.as_ref()?.major_page_faults.as_ref()?.value),
    ),
    (("container_memory_swap", MetricType::Gauge, "Container swap usage in bytes."), |s| {
        Some(s.swap.as_ref()?.swap_usage_bytes.as_ref()?.value)
    }),
    (
        (
            "container_fs_usage_bytes",
            MetricType::Gauge,
            "Bytes that are consumed by the container on its file system.",
        ),
        |s| Some(s.writable_layer.as_ref()?.used_bytes.as_ref()?.value),
    ),
    (("container_fs_inodes_used", MetricType::Gauge, "Inodes that the container uses."), |s| {
        Some(s.writable_layer.as_ref()?.inodes_used.as_ref()?.value)
    }),
];

/// Of a pod's network interfaces; the position is the counter's.
const NETWORK: [Described; 4] = [
    ("container_network_receive_bytes_total", MetricType::Counter, "Cumulative count of bytes received"),
    (
        "container_network_receive_errors_total",
        MetricType::Counter,
        "Cumulative count of errors while receiving",
    ),
    ("container_network_transmit_bytes_total", MetricType::Counter, "Cumulative count of bytes transmitted"),
    (
        "container_network_transmit_errors_total",
        MetricType::Counter,
        "Cumulative count of errors while transmitting",
    ),
];

const PROCESSES: Described =
    ("container_processes", MetricType::Gauge, "Number of processes running inside the pod.");

pub fn descriptors() -> Vec<MetricDescriptor> {
    let describe = |(name, _, help): Described, labels: &[&str]| MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: labels.iter().map(|l| (*l).to_owned()).collect(),
    };
    let containers = CONTAINER.iter().map(|(d, _)| describe(*d, &["id", "name"]));
    let network = NETWORK.iter().map(|d| describe(*d, &["id", "name", "interface"]));
    containers.chain(network).chain([describe(PROCESSES, &["id", "name"])]).collect()
}

fn metric((name, kind, _): Described, timestamp: i64, labels: &[&str], value: u64) -> Metric {
    Metric {
        name: name.to_owned(),
        timestamp,
        metric_type: kind as i32,
        label_values: labels.iter().map(|l| (*l).to_owned()).collect(),
        value: Some(UInt64Value { value }),
    }
}

impl Runtime {
    /// Reads files of the kernel: call it where blocking harms nobody.
    pub fn metrics(&self) -> Vec<PodSandboxMetrics> {
        let of = |sandbox: &std::sync::Arc<crate::sandbox::Sandbox>| {
            let now = crate::events::now();
            let stats = self.sandbox_stats(sandbox).linux.unwrap_or_default();
            let mut metrics = Vec::new();
            let network = stats.network.unwrap_or_default();
            for interface in network.default_interface.iter().chain(&network.interfaces) {
                let counters =
                    [&interface.rx_bytes, &interface.rx_errors, &interface.tx_bytes, &interface.tx_errors];
                for (described, counter) in NETWORK.iter().zip(counters) {
                    let value = counter.as_ref().map_or(0, |c| c.value);
                    metrics.push(metric(*described, now, &[&sandbox.id, "POD", &interface.name], value));
                }
            }
            if let Some(count) = stats.process.and_then(|p| p.process_count) {
                metrics.push(metric(PROCESSES, now, &[&sandbox.id, "POD"], count.value));
            }
            PodSandboxMetrics {
                pod_sandbox_id: sandbox.id.clone(),
                metrics,
                container_metrics: stats.containers.iter().map(|c| of_container(c, now)).collect(),
            }
        };
        self.sandboxes.list().iter().map(of).collect()
    }
}

fn of_container(stats: &ContainerStats, now: i64) -> ContainerMetrics {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let name = attributes.metadata.map(|m| m.name).unwrap_or_default();
    let metrics = CONTAINER.iter().filter_map(|(described, value)| {
        Some(metric(*described, now, &[&attributes.id, &name], value(stats)?))
    });
    ContainerMetrics { container_id: attributes.id.clone(), metrics: metrics.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_described_with_as_many_labels() {
        let stats = ContainerStats { memory: Some(Default::default()), ..Default::default() };
        assert!(of_container(&stats, 1).metrics.is_empty(), "what is not known is not told");
        let mut stats = ContainerStats::default();
        stats.writable_layer.get_or_insert_default().used_bytes = Some(UInt64Value { value: 5 });
        let told = of_container(&stats, 1).metrics;
        let described = descriptors();
        let of = described.iter().find(|d| d.name == told[0].name).unwrap();
        assert_eq!(of.label_keys.len(), told[0].label_values.len());
        assert_eq!(told[0].value.as_ref().unwrap().value, 5);
    }
}
