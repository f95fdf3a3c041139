//! The same numbers as metrics, by cAdvisor's names and labels: ListMetricDescriptors and ListPodSandboxMetrics.

use k8s_cri::v1::{
    ContainerMetrics, Metric, MetricDescriptor, MetricType, NetworkInterfaceUsage, PodSandboxMetrics,
    UInt64Value,
};

use crate::cgroup::Usage;
use crate::container::{Container, State};
use crate::sandbox::Sandbox;
use crate::state::Runtime;

/// What is counted: name, kind, help.
type Described = (&'static str, MetricType, &'static str);

/// With where it is found.
type Measured<T, V> = (Described, fn(&T) -> V);

use MetricType::{Counter, Gauge};

/// Nanoseconds; the CRI has no fractions.
const SECOND: u64 = 1_000_000_000;

/// In this order in every metric.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

const CONTAINER: [Measured<Usage, u64>; 22] = [
    (("container_cpu_usage_seconds_total", Counter, "Cumulative cpu time consumed in seconds."), |u| {
        u.cpu_nanoseconds / SECOND
    }),
    (("container_cpu_user_seconds_total", Counter, "Cumulative user cpu time consumed in seconds."), |u| {
        u.user_nanoseconds / SECOND
    }),
    (
        ("container_cpu_system_seconds_total", Counter, "Cumulative system cpu time consumed in seconds."),
        |u| u.system_nanoseconds / SECOND,
    ),
    (("container_cpu_cfs_periods_total", Counter, "Number of elapsed enforcement period intervals."), |u| {
        u.periods
    }),
    (("container_cpu_cfs_throttled_periods_total", Counter, "Number of throttled period intervals."), |u| {
        u.throttled_periods
    }),
    (
        (
            "container_cpu_cfs_throttled_seconds_total",
            Counter,
            "Total time duration the container has been throttled.",
        ),
        |u| u.throttled_nanoseconds / SECOND,
    ),
    (("container_memory_usage_bytes", Gauge, "Current memory usage in bytes."), |u| u.memory),
    (("container_memory_working_set_bytes", Gauge, "Current working set in bytes."), |u| u.working_set),
    (("container_memory_rss", Gauge, "Size of RSS in bytes."), |u| u.rss),
    (("container_memory_cache", Gauge, "Number of bytes of page cache memory."), |u| u.cache),
    (("container_memory_mapped_file", Gauge, "Size of memory mapped files in bytes."), |u| u.mapped),
    (("container_memory_swap", Gauge, "Container swap usage in bytes."), |u| u.swap),
    (("container_memory_max_usage_bytes", Gauge, "Maximum memory usage recorded in bytes."), |u| {
        u.memory_peak
    }),
    (("container_memory_failcnt", Counter, "Number of memory usage hits limits."), |u| u.memory_failures),
    (("container_memory_failures_total", Counter, "Cumulative count of memory allocation failures."), |u| {
        u.major_page_faults
    }),
    (("container_oom_events_total", Counter, "Count of out of memory events observed."), |u| u.oom_kills),
    (("container_processes", Gauge, "Number of processes running inside the container."), |u| u.processes),
    (("container_threads", Gauge, "Number of threads running inside the container."), |u| u.threads),
    (("container_pressure_cpu_waiting_seconds_total", Counter, "Time that tasks waited for a CPU."), |u| {
        u.cpu_pressure.map_or(0, |p| p.some.total) / SECOND
    }),
    (
        ("container_pressure_memory_waiting_seconds_total", Counter, "Time that tasks waited for memory."),
        |u| u.memory_pressure.map_or(0, |p| p.some.total) / SECOND,
    ),
    (("container_pressure_io_waiting_seconds_total", Counter, "Time that tasks waited for devices."), |u| {
        u.io_pressure.map_or(0, |p| p.some.total) / SECOND
    }),
    (("container_spec_memory_limit_bytes", Gauge, "Memory limit for the container."), |u| {
        u.memory_limit.unwrap_or(0)
    }),
];

const START: Described =
    ("container_start_time_seconds", Gauge, "Start time of the container since unix epoch in seconds.");
const SPEC_SHARES: Described = ("container_spec_cpu_shares", Gauge, "CPU share of the container.");
const SPEC_PERIOD: Described = ("container_spec_cpu_period", Gauge, "CPU period of the container.");
const DISK: [Described; 2] = [
    (
        "container_fs_usage_bytes",
        Gauge,
        "Number of bytes that are consumed by the container on this filesystem.",
    ),
    ("container_fs_inodes_used", Gauge, "Number of inodes that the container uses."),
];

/// Of a pod's network interfaces.
const NETWORK: [Measured<NetworkInterfaceUsage, Option<UInt64Value>>; 4] = [
    (("container_network_receive_bytes_total", Counter, "Cumulative count of bytes received"), |i| {
        i.rx_bytes
    }),
    (
        (
            "container_network_receive_errors_total",
            Counter,
            "Cumulative count of errors encountered while receiving",
        ),
        |i| i.rx_errors,
    ),
    (("container_network_transmit_bytes_total", Counter, "Cumulative count of bytes transmitted"), |i| {
        i.tx_bytes
    }),
    (
        (
            "container_network_transmit_errors_total",
            Counter,
            "Cumulative count of errors encountered while transmitting",
        ),
        |i| i.tx_errors,
    ),
];

pub fn descriptors() -> Vec<MetricDescriptor> {
    let describe = |(name, _, help): Described, further: &[&str]| MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: LABELS.iter().chain(further).map(|l| (*l).to_owned()).collect(),
    };
    let containers = CONTAINER.iter().map(|(d, _)| *d).chain([START, SPEC_SHARES, SPEC_PERIOD]).chain(DISK);
    let network = NETWORK.iter().map(|(d, _)| describe(*d, &["interface"]));
    containers.map(|d| describe(d, &[])).chain(network).collect()
}

fn metric((name, kind, _): Described, labels: &[String], value: u64) -> Metric {
    Metric {
        name: name.to_owned(),
        // Read just now.
        timestamp: 0,
        metric_type: kind as i32,
        label_values: labels.to_vec(),
        value: Some(UInt64Value { value }),
    }
}

impl Runtime {
    /// Reads files of the kernel: call it where blocking harms nobody.
    pub fn metrics(&self) -> Vec<PodSandboxMetrics> {
        self.sandboxes.list().iter().map(|sandbox| self.sandbox_metrics(sandbox)).collect()
    }

    fn sandbox_metrics(&self, sandbox: &Sandbox) -> PodSandboxMetrics {
        let (metadata, network) = {
            let record = sandbox.record.lock();
            let network = record.ready.then(|| super::network(record.shim_pid, crate::events::now()));
            (record.config.metadata.clone().unwrap_or_default(), network.flatten().unwrap_or_default())
        };
        let labels = |container: &str, id: &str, image: &str| {
            let name = id;
            [container, id, image, name, &metadata.namespace, &metadata.name].map(str::to_owned).to_vec()
        };
        let mut metrics = Vec::new();
        for interface in network.default_interface.iter().chain(&network.interfaces) {
            let mut labels = labels("", &sandbox.id, "");
            labels.push(interface.name.clone());
            metrics.extend(NETWORK.iter().map(|(described, counter)| {
                metric(*described, &labels, counter(interface).map_or(0, |c| c.value))
            }));
        }
        let running = self.containers_of(&sandbox.id);
        let running = running.iter().filter(|c| c.state() == State::Running);
        let of_container = |container: &std::sync::Arc<Container>| {
            let (name, image) = {
                let record = container.record.lock();
                let name = record.config.metadata.clone().unwrap_or_default().name;
                (name, record.image_name.clone())
            };
            ContainerMetrics {
                container_id: container.id.clone(),
                metrics: self.container_metrics(container, &labels(&name, &container.id, &image)),
            }
        };
        PodSandboxMetrics {
            pod_sandbox_id: sandbox.id.clone(),
            metrics,
            container_metrics: running.map(of_container).collect(),
        }
    }

    fn container_metrics(&self, container: &Container, labels: &[String]) -> Vec<Metric> {
        let (cgroup, started_at, limits) = {
            let record = container.record.lock();
            let limits = record.config.linux.as_ref().and_then(|l| l.resources.clone()).unwrap_or_default();
            (record.cgroup.clone(), record.started_at, limits)
        };
        let usage = self.cgroups.usage(&cgroup);
        let (bytes, inodes) =
            super::disk_usage(&self.container_dir(&container.id).join("upper")).unwrap_or_default();
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let measured = CONTAINER.iter().map(|(described, value)| (*described, value(&usage)));
        let known = [
            (START, number(started_at) / SECOND),
            (SPEC_SHARES, number(limits.cpu_shares)),
            (SPEC_PERIOD, number(limits.cpu_period)),
            (DISK[0], bytes),
            (DISK[1], inodes),
        ];
        measured.chain(known).map(|(described, value)| metric(described, labels, value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_labels_sorted() {
        let descriptors = descriptors();
        let names: HashSet<&str> = descriptors.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names.len(), descriptors.len());
        assert!(LABELS.is_sorted());
        let network = descriptors.iter().find(|d| d.name.contains("network")).unwrap();
        assert_eq!(network.label_keys.len(), LABELS.len() + 1);
    }
}
