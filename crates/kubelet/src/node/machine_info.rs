//! What the machine has: processors, memory, disk, huge pages, and who it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::config::KubeletConfiguration;
use crate::container::quantity;

#[derive(Clone, Debug)]
pub struct MachineInfo {
    pub cpus: i64,
    /// Bytes.
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// The swap space, in bytes.
    pub swap: i64,
    /// Page size as a quantity (`2Mi`), bytes.
    pub hugepages: BTreeMap<String, i64>,
    pub machine_id: String,
    pub boot_id: String,
    pub system_uuid: String,
    pub kernel_version: String,
    pub os_image: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl MachineInfo {
    pub fn read(root_dir: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
        let uname = rustix::system::uname();
        Self {
            cpus: i64::try_from(cpus).unwrap_or(1),
            memory: meminfo("MemTotal:").unwrap_or(0),
            ephemeral_storage: disk_size(root_dir).unwrap_or(0),
            swap: meminfo("SwapTotal:").unwrap_or(0),
            hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
            machine_id: read("/etc/machine-id"),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            system_uuid: read("/sys/class/dmi/id/product_uuid"),
            kernel_version: uname.release().to_string_lossy().into_owned(),
            os_image: os_image(&read("/etc/os-release")),
        }
    }

    /// What there is, by resource: CPU in thousandths, the rest in units.
    pub fn capacity(&self, config: &KubeletConfiguration) -> BTreeMap<String, i64> {
        let mut capacity: BTreeMap<String, i64> = [
            ("cpu".to_owned(), self.cpus.saturating_mul(1000)),
            ("memory".to_owned(), self.memory),
            ("ephemeral-storage".to_owned(), self.ephemeral_storage),
            ("pods".to_owned(), i64::from(config.pod_limit(self.cpus))),
        ]
        .into();
        for (size, bytes) in &self.hugepages {
            capacity.insert(format!("hugepages-{size}"), *bytes);
        }
        capacity
    }

    /// What pods are held to as a whole: the capacity less what is reserved. Eviction begins before that is used up.
    pub fn enforced(&self, config: &KubeletConfiguration) -> BTreeMap<String, i64> {
        let unevicted = KubeletConfiguration {
            eviction_hard: BTreeMap::new(),
            merge_default_eviction_settings: false,
            ..config.clone()
        };
        self.allocatable(&unevicted)
    }

    /// The capacity less what is reserved and what would make pods be evicted.
    pub fn allocatable(&self, config: &KubeletConfiguration) -> BTreeMap<String, i64> {
        let mut allocatable = self.capacity(config);
        for (name, amount) in &mut allocatable {
            let set_apart = cpus_in(&config.reserved_system_cpus).saturating_mul(1000);
            if name == "cpu" && set_apart > 0 {
                *amount -= set_apart;
                continue;
            }
            for reserved in [&config.system_reserved, &config.kube_reserved] {
                let Some(text) = reserved.get(name) else { continue };
                let read = if name == "cpu" { quantity::milli } else { quantity::value };
                *amount -= read(text).unwrap_or(0);
            }
            let signal = match name.as_str() {
                "memory" => "memory.available",
                "ephemeral-storage" => "nodefs.available",
                _ => continue,
            };
            if let Some(threshold) = config.hard_threshold(signal) {
                *amount -= threshold_of(threshold, *amount);
            }
        }
        let pages: i64 = self.hugepages.values().sum();
        if let Some(memory) = allocatable.get_mut("memory") {
            *memory -= pages;
        }
        allocatable.values_mut().for_each(|amount| *amount = (*amount).max(0));
        allocatable
    }
}

/// How many CPUs a list such as `0-1,4` names.
fn cpus_in(list: &str) -> i64 {
    let count = |part: &str| -> Option<i64> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (i64, i64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some((last.saturating_sub(first).saturating_add(1)).max(0))
    };
    list.split(',').filter_map(count).sum()
}

/// A threshold: an amount, or a percentage of `whole`.
pub fn threshold_of(text: &str, whole: i64) -> i64 {
    match text.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok()) {
        // Exact enough: thresholds are round numbers, disks are not.
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        Some(percent) => (whole as f64 * percent / 100.0) as i64,
        None => quantity::value(text).unwrap_or(0),
    }
}

/// A line of `/proc/meminfo`, in bytes.
pub fn meminfo(key: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let kib: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

fn disk_size(path: &Path) -> Option<i64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    i64::try_from(stat.f_blocks.saturating_mul(stat.f_frsize)).ok()
}

/// By size of the pages: bytes.
pub fn hugepages(dir: &Path) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kib =
            name.strip_prefix("hugepages-").and_then(|name| name.strip_suffix("kB")?.parse::<i64>().ok());
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok();
        let count = count.and_then(|text| text.trim().parse::<i64>().ok());
        if let (Some(kib), Some(count)) = (kib, count) {
            let size = match kib {
                kib if kib % (1 << 20) == 0 => format!("{}Gi", kib >> 20),
                kib if kib % (1 << 10) == 0 => format!("{}Mi", kib >> 10),
                kib => format!("{kib}Ki"),
            };
            found.insert(size, kib.saturating_mul(1024).saturating_mul(count));
        }
    }
    found
}

fn os_image(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        assert_eq!(threshold_of("10%", 1000), 100);
        assert_eq!(threshold_of("100Mi", 1000), 100 << 20);
        assert_eq!(threshold_of("nonsense", 1000), 0);
    }

    #[test]
    fn reserved_is_not_allocatable() {
        let mut machine = MachineInfo::read(Path::new("/"));
        machine.cpus = 2;
        machine.memory = 1 << 30;
        machine.hugepages.clear();
        let mut config = KubeletConfiguration::default();
        config.system_reserved.insert("cpu".into(), "500m".into());
        let allocatable = machine.allocatable(&config);
        assert_eq!(allocatable["cpu"], 1500);
        assert_eq!(allocatable["memory"], (1 << 30) - (100 << 20));
    }

    #[test]
    fn names() {
        assert_eq!(os_image("ID=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(os_image(""), "Linux");
    }
}
