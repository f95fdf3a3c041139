//! The same numbers as metrics, by cAdvisor's names and labels: ListMetricDescriptors and ListPodSandboxMetrics.

use std::fs;

use k8s_cri::v1::{ContainerMetrics, Metric, MetricDescriptor, MetricType, PodSandboxMetrics, UInt64Value};

use super::{Interface, processes};

use crate::cgroup::{DeviceIo, Usage};
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

const CONTAINER: [Measured<Usage, u64>; 28] = [
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
    (("container_memory_kernel_usage", Gauge, "Size of kernel memory allocated in bytes."), |u| {
        u.kernel_memory
    }),
    (("container_memory_total_active_file_bytes", Gauge, "Current total active file in bytes."), |u| {
        u.active_file
    }),
    (("container_memory_total_inactive_file_bytes", Gauge, "Current total inactive file in bytes."), |u| {
        u.inactive_file
    }),
    (
        (
            "container_threads_max",
            Gauge,
            "Maximum number of threads allowed inside the container, 0 if unlimited.",
        ),
        |u| u.most_threads.unwrap_or(0),
    ),
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
    (
        (
            "container_pressure_memory_stalled_seconds_total",
            Counter,
            "Time that all tasks waited for memory.",
        ),
        |u| u.memory_pressure.map_or(0, |p| p.full.total) / SECOND,
    ),
    (
        ("container_pressure_io_stalled_seconds_total", Counter, "Time that all tasks waited for devices."),
        |u| u.io_pressure.map_or(0, |p| p.full.total) / SECOND,
    ),
    (
        ("container_pressure_cpu_stalled_seconds_total", Counter, "Time that all tasks waited for a CPU."),
        |u| u.cpu_pressure.map_or(0, |p| p.full.total) / SECOND,
    ),
    (("container_spec_memory_limit_bytes", Gauge, "Memory limit for the container."), |u| {
        u.memory_limit.unwrap_or(0)
    }),
];

/// What else is known of a container, in the order in which it is told.
const KNOWN: [Described; 12] = [
    ("container_start_time_seconds", Gauge, "Start time of the container since unix epoch in seconds."),
    ("container_last_seen", Gauge, "Last time a container was seen, in seconds since unix epoch."),
    ("container_spec_cpu_shares", Gauge, "CPU share of the container."),
    ("container_spec_cpu_period", Gauge, "CPU period of the container."),
    ("container_spec_cpu_quota", Gauge, "CPU quota of the container, 0 if unlimited."),
    ("container_spec_memory_swap_limit_bytes", Gauge, "Memory swap limit for the container."),
    (
        "container_fs_usage_bytes",
        Gauge,
        "Number of bytes that are consumed by the container on this filesystem.",
    ),
    ("container_fs_inodes_used", Gauge, "Number of inodes that the container uses."),
    ("container_fs_limit_bytes", Gauge, "Number of bytes of the filesystem that the container is on."),
    ("container_fs_inodes_total", Gauge, "Number of inodes of the filesystem that the container is on."),
    ("container_fs_inodes_free", Gauge, "Number of available inodes of that filesystem."),
    ("container_file_descriptors", Gauge, "Number of open file descriptors for the container."),
];
const SOCKETS: Described = ("container_sockets", Gauge, "Number of open sockets for the container.");
const ULIMITS: Described =
    ("container_ulimits_soft", Gauge, "Soft ulimit values for the container's first process.");
const FAILURES: Described =
    ("container_memory_failures_total", Counter, "Cumulative count of memory allocation failures.");
const BLKIO: Described = ("container_blkio_device_usage_total", Counter, "Blkio device bytes usage.");

/// Of the block devices that a container uses.
const DEVICE: [Measured<DeviceIo, u64>; 4] = [
    (("container_fs_reads_bytes_total", Counter, "Cumulative count of bytes read"), |d| d.read_bytes),
    (("container_fs_reads_total", Counter, "Cumulative count of reads completed"), |d| d.reads),
    (("container_fs_writes_bytes_total", Counter, "Cumulative count of bytes written"), |d| d.written_bytes),
    (("container_fs_writes_total", Counter, "Cumulative count of writes completed"), |d| d.writes),
];

/// Of a pod's network interfaces.
const NETWORK: [Measured<Interface, u64>; 8] = [
    (("container_network_receive_bytes_total", Counter, "Cumulative count of bytes received"), |i| {
        i.received.bytes
    }),
    (("container_network_receive_packets_total", Counter, "Cumulative count of packets received"), |i| {
        i.received.packets
    }),
    (
        (
            "container_network_receive_packets_dropped_total",
            Counter,
            "Cumulative count of packets dropped while receiving",
        ),
        |i| i.received.dropped,
    ),
    (
        (
            "container_network_receive_errors_total",
            Counter,
            "Cumulative count of errors encountered while receiving",
        ),
        |i| i.received.errors,
    ),
    (("container_network_transmit_bytes_total", Counter, "Cumulative count of bytes transmitted"), |i| {
        i.sent.bytes
    }),
    (("container_network_transmit_packets_total", Counter, "Cumulative count of packets transmitted"), |i| {
        i.sent.packets
    }),
    (
        (
            "container_network_transmit_packets_dropped_total",
            Counter,
            "Cumulative count of packets dropped while transmitting",
        ),
        |i| i.sent.dropped,
    ),
    (
        (
            "container_network_transmit_errors_total",
            Counter,
            "Cumulative count of errors encountered while transmitting",
        ),
        |i| i.sent.errors,
    ),
];

pub fn descriptors() -> Vec<MetricDescriptor> {
    let describe = |(name, _, help): Described, further: &[&str]| MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: LABELS.iter().chain(further).map(|l| (*l).to_owned()).collect(),
    };
    let plain = CONTAINER.iter().map(|(d, _)| *d).chain(KNOWN).chain([SOCKETS]);
    let with = |described: Described, further: &[&str]| describe(described, further);
    plain
        .map(|d| describe(d, &[]))
        .chain([
            with(ULIMITS, &["ulimit"]),
            with(FAILURES, &["failure_type", "scope"]),
            with(BLKIO, &["device", "major", "minor", "operation"]),
        ])
        .chain(DEVICE.iter().map(|(d, _)| with(*d, &["device"])))
        .chain(NETWORK.iter().map(|(d, _)| with(*d, &["interface"])))
        .collect()
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
            let network = record.ready.then(|| super::interfaces(record.shim_pid)).flatten();
            (record.config.metadata.clone().unwrap_or_default(), network.unwrap_or_default())
        };
        let labels = |container: &str, id: &str, image: &str| {
            let name = id;
            [container, id, image, name, &metadata.namespace, &metadata.name].map(str::to_owned).to_vec()
        };
        let mut metrics = Vec::new();
        for interface in &network {
            let mut labels = labels("", &sandbox.id, "");
            labels.push(interface.name.clone());
            metrics.extend(
                NETWORK.iter().map(|(described, counter)| metric(*described, &labels, counter(interface))),
            );
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
        let (cgroup, started_at, pid, limits) = {
            let record = container.record.lock();
            let limits = record.config.linux.as_ref().and_then(|l| l.resources.clone()).unwrap_or_default();
            (record.cgroup.clone(), record.started_at, record.pid, limits)
        };
        let usage = self.cgroups.usage(&cgroup);
        let layer = self.container_dir(&container.id).join("upper");
        let (bytes, inodes) = super::disk_usage(&layer).unwrap_or_default();
        let disk = rustix::fs::statvfs(&layer).ok();
        let disk = |value: fn(&rustix::fs::StatVfs) -> u64| disk.as_ref().map_or(0, value);
        let open = processes::open_files(&self.cgroups.processes(&cgroup));
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let swap = number(limits.memory_swap_limit_in_bytes - limits.memory_limit_in_bytes);
        let known = [
            number(started_at) / SECOND,
            number(crate::events::now()) / SECOND,
            number(limits.cpu_shares),
            number(limits.cpu_period),
            number(limits.cpu_quota),
            swap,
            bytes,
            inodes,
            disk(|d| d.f_blocks * d.f_frsize),
            disk(|d| d.f_files),
            disk(|d| d.f_favail),
            open.files,
        ];
        let with = |further: &[&str]| -> Vec<String> {
            labels.iter().cloned().chain(further.iter().map(|l| (*l).to_owned())).collect()
        };
        let mut metrics: Vec<Metric> =
            CONTAINER.iter().map(|(described, value)| metric(*described, labels, value(&usage))).collect();
        metrics.extend(KNOWN.iter().zip(known).map(|(described, value)| metric(*described, labels, value)));
        metrics.push(metric(SOCKETS, labels, open.sockets));
        metrics
            .extend(processes::most_files(pid).map(|most| metric(ULIMITS, &with(&["max_open_files"]), most)));
        // A container has no groups below it that count for themselves, so both scopes are the same.
        for scope in ["container", "hierarchy"] {
            for (kind, count) in [("pgfault", usage.page_faults), ("pgmajfault", usage.major_page_faults)] {
                metrics.push(metric(FAILURES, &with(&[kind, scope]), count));
            }
        }
        for io in self.cgroups.device_io(&cgroup) {
            let name = device_name(&io);
            metrics.extend(DEVICE.iter().map(|(d, value)| metric(*d, &with(&[&name]), value(&io))));
            let (major, minor) = (io.major.to_string(), io.minor.to_string());
            for (operation, count) in [("Read", io.read_bytes), ("Write", io.written_bytes)] {
                metrics.push(metric(BLKIO, &with(&[&name, &major, &minor, operation]), count));
            }
        }
        metrics
    }
}

/// As it is called below `/dev`; empty if the kernel does not say.
fn device_name(io: &DeviceIo) -> String {
    let path = format!("/sys/dev/block/{}:{}/uevent", io.major, io.minor);
    let text = fs::read_to_string(path).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map(|name| format!("/dev/{name}")).unwrap_or_default()
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
