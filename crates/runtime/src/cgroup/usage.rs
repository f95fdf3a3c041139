//! What a group uses.

use std::collections::HashMap;
use std::fs;

use super::Cgroups;

/// Zero where the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub cpu_nanoseconds: u64,
    pub user_nanoseconds: u64,
    pub system_nanoseconds: u64,
    /// Of the CPU limit: periods there were, periods and time in which it held the group back.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_nanoseconds: u64,
    pub memory: u64,
    pub memory_peak: u64,
    /// Without what could be dropped at once: inactive page cache.
    pub working_set: u64,
    /// `None` if unlimited.
    pub memory_limit: Option<u64>,
    /// How often the limit was hit.
    pub memory_failures: u64,
    pub oom_kills: u64,
    pub active_file: u64,
    pub inactive_file: u64,
    /// Of the kernel's own structures.
    pub kernel_memory: u64,
    pub rss: u64,
    pub cache: u64,
    pub mapped: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub swap: u64,
    /// `None` if unlimited.
    pub swap_limit: Option<u64>,
    /// Threads, as the kernel counts them against the limit.
    pub threads: u64,
    pub processes: u64,
    /// `None` if unlimited.
    pub most_threads: Option<u64>,
    pub cpu_pressure: Option<Pressure>,
    pub memory_pressure: Option<Pressure>,
    pub io_pressure: Option<Pressure>,
}

/// How long tasks stood still for want of a resource: some of them, or all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    pub some: Stall,
    pub full: Stall,
}

/// In percent of the last seconds, and nanoseconds in all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

impl Usage {
    /// Of a pod: what its containers use together.
    pub fn add(&mut self, other: &Self) {
        self.cpu_nanoseconds += other.cpu_nanoseconds;
        self.memory += other.memory;
        self.working_set += other.working_set;
        self.rss += other.rss;
        self.page_faults += other.page_faults;
        self.major_page_faults += other.major_page_faults;
        self.processes += other.processes;
    }
}

/// Of CPU, memory and I/O.
pub fn pressures(groups: &Cgroups, group: &str) -> [Option<Pressure>; 3] {
    ["cpu", "memory", "io"].map(|controller| {
        let directory = groups.directory(controller, group)?;
        parse_pressure(&fs::read_to_string(directory.join(format!("{controller}.pressure"))).ok()?)
    })
}

pub fn read(groups: &Cgroups, group: &str) -> Usage {
    let file = |controller: &str, name: &str| {
        let directory = groups.directory(controller, group);
        directory.and_then(|d| fs::read_to_string(d.join(name)).ok()).unwrap_or_default()
    };
    let number = |controller: &str, name: &str| file(controller, name).trim().parse::<u64>().unwrap_or(0);
    let table = |controller: &str, name: &str| Table::parse(&file(controller, name));
    let memory_stat = table("memory", "memory.stat");
    let cpu_stat = table("cpu", "cpu.stat");
    let processes = file("pids", "cgroup.procs").lines().count() as u64;
    let common = Usage {
        processes,
        threads: number("pids", "pids.current"),
        most_threads: file("pids", "pids.max").trim().parse().ok(),
        periods: cpu_stat.of("nr_periods"),
        throttled_periods: cpu_stat.of("nr_throttled"),
        ..Usage::default()
    };
    if groups.is_unified() {
        let memory = number("memory", "memory.current");
        let [cpu_pressure, memory_pressure, io_pressure] = pressures(groups, group);
        let events = table("memory", "memory.events");
        Usage {
            cpu_nanoseconds: cpu_stat.of("usage_usec") * 1_000,
            user_nanoseconds: cpu_stat.of("user_usec") * 1_000,
            system_nanoseconds: cpu_stat.of("system_usec") * 1_000,
            throttled_nanoseconds: cpu_stat.of("throttled_usec") * 1_000,
            memory,
            memory_peak: number("memory", "memory.peak"),
            working_set: memory.saturating_sub(memory_stat.of("inactive_file")),
            memory_limit: file("memory", "memory.max").trim().parse().ok(),
            memory_failures: events.of("max"),
            oom_kills: events.of("oom_kill"),
            active_file: memory_stat.of("active_file"),
            inactive_file: memory_stat.of("inactive_file"),
            kernel_memory: memory_stat.of("kernel"),
            rss: memory_stat.of("anon"),
            cache: memory_stat.of("file"),
            mapped: memory_stat.of("file_mapped"),
            page_faults: memory_stat.of("pgfault"),
            major_page_faults: memory_stat.of("pgmajfault"),
            swap: number("memory", "memory.swap.current"),
            swap_limit: file("memory", "memory.swap.max").trim().parse().ok(),
            cpu_pressure,
            memory_pressure,
            io_pressure,
            ..common
        }
    } else {
        let memory = number("memory", "memory.usage_in_bytes");
        // The kernel says "no limit" with a number no machine has.
        let limit = |name: &str| Some(number("memory", name)).filter(|l| *l > 0 && *l < 1 << 60);
        let memory_limit = limit("memory.limit_in_bytes");
        let swap_limit =
            limit("memory.memsw.limit_in_bytes").and_then(|total| Some(total.saturating_sub(memory_limit?)));
        Usage {
            cpu_nanoseconds: number("cpuacct", "cpuacct.usage"),
            user_nanoseconds: number("cpuacct", "cpuacct.usage_user"),
            system_nanoseconds: number("cpuacct", "cpuacct.usage_sys"),
            throttled_nanoseconds: cpu_stat.of("throttled_time"),
            memory,
            memory_peak: number("memory", "memory.max_usage_in_bytes"),
            working_set: memory.saturating_sub(memory_stat.of("total_inactive_file")),
            memory_limit,
            memory_failures: number("memory", "memory.failcnt"),
            oom_kills: table("memory", "memory.oom_control").of("oom_kill"),
            active_file: memory_stat.of("total_active_file"),
            inactive_file: memory_stat.of("total_inactive_file"),
            kernel_memory: number("memory", "memory.kmem.usage_in_bytes"),
            rss: memory_stat.of("total_rss"),
            cache: memory_stat.of("total_cache"),
            mapped: memory_stat.of("total_mapped_file"),
            page_faults: memory_stat.of("total_pgfault"),
            major_page_faults: memory_stat.of("total_pgmajfault"),
            swap: memory_stat.of("total_swap"),
            swap_limit,
            ..common
        }
    }
}

/// Lines of a name and a number.
struct Table(HashMap<String, u64>);

impl Table {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|l| l.split_once(' '));
        Self(lines.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect())
    }

    fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same of `full`, which older kernels lack for the CPU.
fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    let mut found = false;
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ')?;
        let mut stall = Stall::default();
        for (key, value) in rest.split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total = value.parse::<u64>().ok()?.saturating_mul(1_000),
                _ => {}
            }
        }
        match kind {
            "some" => pressure.some = stall,
            "full" => pressure.full = stall,
            _ => continue,
        }
        found = true;
    }
    found.then_some(pressure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=3\n";
        let found = parse_pressure(text).unwrap();
        assert_eq!((found.some.avg10, found.some.total, found.full.total), (1.5, 12_000, 3_000));
        for nothing in ["", "what", "some avg10=x total=1"] {
            assert_eq!(parse_pressure(nothing), None, "{nothing}");
        }
    }
}
