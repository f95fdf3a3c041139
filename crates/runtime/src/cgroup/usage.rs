//! What a group uses.

use std::collections::HashMap;
use std::fs;

use super::Cgroups;

/// Zero where the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_nanoseconds: u64,
    pub memory: u64,
    /// Without what could be dropped at once: inactive page cache.
    pub working_set: u64,
    /// `None` if unlimited.
    pub memory_limit: Option<u64>,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub swap: u64,
    pub processes: u64,
}

pub fn read(groups: &Cgroups, group: &str) -> Usage {
    let file = |controller: &str, name: &str| {
        groups
            .directory(controller, group)
            .and_then(|d| fs::read_to_string(d.join(name)).ok())
            .unwrap_or_default()
    };
    let number = |controller: &str, name: &str| file(controller, name).trim().parse::<u64>().unwrap_or(0);
    let table = |controller: &str, name: &str| parse_table(&file(controller, name));
    let stat = table("memory", "memory.stat");
    let of = |name: &str| stat.get(name).copied().unwrap_or(0);
    let processes = number("pids", "pids.current");
    if groups.is_unified() {
        let memory = number("memory", "memory.current");
        let cpu = table("cpu", "cpu.stat").get("usage_usec").copied().unwrap_or(0);
        Usage {
            cpu_nanoseconds: cpu * 1_000,
            memory,
            working_set: memory.saturating_sub(of("inactive_file")),
            memory_limit: file("memory", "memory.max").trim().parse().ok(),
            rss: of("anon"),
            page_faults: of("pgfault"),
            major_page_faults: of("pgmajfault"),
            swap: number("memory", "memory.swap.current"),
            processes,
        }
    } else {
        let memory = number("memory", "memory.usage_in_bytes");
        // The kernel says "no limit" with a number no machine has.
        let limit = number("memory", "memory.limit_in_bytes");
        Usage {
            cpu_nanoseconds: number("cpuacct", "cpuacct.usage"),
            memory,
            working_set: memory.saturating_sub(of("total_inactive_file")),
            memory_limit: (limit > 0 && limit < 1 << 60).then_some(limit),
            rss: of("total_rss"),
            page_faults: of("total_pgfault"),
            major_page_faults: of("total_pgmajfault"),
            swap: of("total_swap"),
            processes,
        }
    }
}

fn parse_table(text: &str) -> HashMap<String, u64> {
    let lines = text.lines().filter_map(|l| l.split_once(' '));
    lines.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect()
}
