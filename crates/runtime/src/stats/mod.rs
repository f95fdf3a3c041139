//! What containers and pods use, as the CRI counts it.

pub mod metrics;
mod processes;

use std::path::Path;
use std::{fs, io};

use k8s_cri::v1::{
    ContainerAttributes, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage, IoUsage,
    LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes,
    PodSandboxStats, ProcessUsage, PsiData, PsiStats, SwapUsage, UInt64Value,
};

use crate::cgroup::{Pressure, Stall, Usage};
use crate::container::{Container, State};
use crate::events::now;
use crate::sandbox::Sandbox;
use crate::state::Runtime;

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

impl Runtime {
    /// Reads files of the kernel and walks the writable layer: call it where blocking harms nobody.
    pub fn container_stats(&self, container: &Container) -> ContainerStats {
        let (config, cgroup, state) = {
            let record = container.record.lock();
            (record.config.clone(), record.cgroup.clone(), record.state)
        };
        let upper = self.container_dir(&container.id).join("upper");
        let (bytes, inodes) = disk_usage(&upper).unwrap_or_default();
        let timestamp = now();
        let mut stats = ContainerStats {
            attributes: Some(ContainerAttributes {
                id: container.id.clone(),
                metadata: config.metadata,
                labels: config.labels,
                annotations: config.annotations,
            }),
            writable_layer: Some(FilesystemUsage {
                timestamp,
                fs_id: Some(FilesystemIdentifier { mountpoint: self.config.root_dir.display().to_string() }),
                used_bytes: value(bytes),
                inodes_used: value(inodes),
            }),
            ..ContainerStats::default()
        };
        if state == State::Running {
            let usage = self.cgroups.usage(&cgroup);
            stats.cpu = Some(CpuUsage {
                usage_nano_cores: rate(container, timestamp, usage.cpu_nanoseconds),
                ..cpu(&usage, timestamp)
            });
            stats.memory = Some(memory(&usage, timestamp));
            stats.swap = Some(SwapUsage {
                timestamp,
                swap_available_bytes: usage.swap_limit.and_then(|l| value(l.saturating_sub(usage.swap))),
                swap_usage_bytes: value(usage.swap),
            });
            stats.io = io_usage(&usage, timestamp);
        }
        stats
    }

    /// What the writable layers of all containers take.
    pub fn containers_usage(&self) -> FilesystemUsage {
        let directory = self.config.root_dir.join("containers");
        let (bytes, inodes) = disk_usage(&directory).unwrap_or_default();
        FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: directory.display().to_string() }),
            used_bytes: value(bytes),
            inodes_used: value(inodes),
        }
    }

    pub fn sandbox_stats(&self, sandbox: &Sandbox) -> PodSandboxStats {
        let timestamp = now();
        let (config, shim, ready) = {
            let record = sandbox.record.lock();
            (record.config.clone(), record.shim_pid, record.ready)
        };
        let mut total = Usage::default();
        let mut cores = 0;
        let mut containers = Vec::new();
        for container in self.containers_of(&sandbox.id) {
            if container.state() == State::Running {
                total.add(&self.cgroups.usage(&container.record.lock().cgroup.clone()));
            }
            let stats = self.container_stats(&container);
            cores += stats.cpu.as_ref().and_then(|c| c.usage_nano_cores).map_or(0, |v| v.value);
            containers.push(stats);
        }
        // Stalls of containers do not add up to those of their pod: its own group tells.
        if let Some(group) = self.pod_group(sandbox) {
            [total.cpu_pressure, total.memory_pressure, total.io_pressure] = self.cgroups.pressures(&group);
        }
        let network = if ready { network(shim, timestamp) } else { None };
        PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: config.metadata,
                labels: config.labels,
                annotations: config.annotations,
            }),
            linux: Some(LinuxPodSandboxStats {
                cpu: Some(CpuUsage { usage_nano_cores: value(cores), ..cpu(&total, timestamp) }),
                memory: Some(memory(&total, timestamp)),
                network,
                process: Some(ProcessUsage { timestamp, process_count: value(total.processes) }),
                containers,
                io: io_usage(&total, timestamp),
            }),
            windows: None,
        }
    }
}

/// Nanoseconds of CPU per second since the container was last looked at; none the first time.
fn rate(container: &Container, timestamp: i64, cpu: u64) -> Option<UInt64Value> {
    let (then, before) = container.cpu_sample.lock().replace((timestamp, cpu))?;
    let elapsed = u128::try_from(timestamp - then).ok().filter(|n| *n > 0)?;
    let used = u128::from(cpu.saturating_sub(before));
    value(u64::try_from(used * 1_000_000_000 / elapsed).unwrap_or(u64::MAX))
}

fn cpu(usage: &Usage, timestamp: i64) -> CpuUsage {
    CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(usage.cpu_nanoseconds),
        usage_nano_cores: None,
        psi: pressure(usage.cpu_pressure),
    }
}

fn io_usage(usage: &Usage, timestamp: i64) -> Option<IoUsage> {
    Some(IoUsage { timestamp, psi: Some(pressure(usage.io_pressure)?) })
}

fn pressure(pressure: Option<Pressure>) -> Option<PsiStats> {
    let data = |p: Stall| Some(PsiData { total: p.total, avg10: p.avg10, avg60: p.avg60, avg300: p.avg300 });
    let Pressure { some, full } = pressure?;
    Some(PsiStats { some: data(some), full: data(full) })
}

fn memory(usage: &Usage, timestamp: i64) -> MemoryUsage {
    MemoryUsage {
        timestamp,
        working_set_bytes: value(usage.working_set),
        available_bytes: usage.memory_limit.and_then(|limit| value(limit.saturating_sub(usage.working_set))),
        usage_bytes: value(usage.memory),
        rss_bytes: value(usage.rss),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
        psi: pressure(usage.memory_pressure),
    }
}

/// The interfaces of the network namespace that the shim is in, but the loopback.
fn interfaces(shim: i32) -> Option<Vec<Interface>> {
    let text = fs::read_to_string(format!("/proc/{shim}/net/dev")).ok()?;
    Some(text.lines().filter_map(interface).filter(|i| i.name != "lo").collect())
}

fn network(shim: i32, timestamp: i64) -> Option<NetworkUsage> {
    let usage = |i: Interface| NetworkInterfaceUsage {
        name: i.name,
        rx_bytes: value(i.received.bytes),
        rx_errors: value(i.received.errors),
        tx_bytes: value(i.sent.bytes),
        tx_errors: value(i.sent.errors),
    };
    let mut interfaces: Vec<_> = interfaces(shim)?.into_iter().map(usage).collect();
    let default = interfaces.iter().position(|i| i.name == "eth0").map(|i| interfaces.remove(i));
    Some(NetworkUsage { timestamp, default_interface: default, interfaces })
}

#[derive(Debug, Clone, Default)]
struct Interface {
    name: String,
    received: Traffic,
    sent: Traffic,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traffic {
    bytes: u64,
    packets: u64,
    errors: u64,
    dropped: u64,
}

/// A line of `/proc/net/dev`: eight counters received, eight sent.
fn interface(line: &str) -> Option<Interface> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters.split_ascii_whitespace().map_while(|c| c.parse().ok()).collect();
    let traffic = |from: usize| match counters.get(from..from + 4)? {
        [bytes, packets, errors, dropped] => {
            Some(Traffic { bytes: *bytes, packets: *packets, errors: *errors, dropped: *dropped })
        }
        _ => None,
    };
    Some(Interface { name: name.trim().to_owned(), received: traffic(0)?, sent: traffic(8)? })
}

/// Bytes and inodes below a directory, without following links.
fn disk_usage(directory: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut inodes) = (0, 0);
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            bytes += metadata.blocks() * 512;
            inodes += 1;
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok((bytes, inodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces() {
        let line = "  eth0: 1296 16 1 4 0 0 0 0 2048 17 3 5 0 0 0 0";
        let found = interface(line).unwrap();
        let traffic = |bytes, packets, errors, dropped| Traffic { bytes, packets, errors, dropped };
        assert_eq!(found.name, "eth0");
        assert_eq!((found.received, found.sent), (traffic(1296, 16, 1, 4), traffic(2048, 17, 3, 5)));
        for bad in ["", "Inter-| Receive", " face |bytes: packets", "eth0: 1 2"] {
            assert!(interface(bad).is_none(), "{bad}");
        }
    }
}
