//! Pressure on the node's memory, disk and process table, by the thresholds of `evictionHard`.

use std::fs;

use crate::context::Context;
use crate::node::Health;
use crate::node::machine_info::{meminfo, threshold_of};

/// What is short right now.
pub fn pressure(ctx: &Context) -> Health {
    let hard = &ctx.options.config.eviction_hard;
    let below = |signal: &str, available: Option<i64>, whole: i64| {
        let threshold = hard.get(signal).map(|text| threshold_of(text, whole));
        threshold.zip(available).is_some_and(|(threshold, available)| available < threshold)
    };
    let disk = rustix::fs::statvfs(&ctx.options.root_dir).ok();
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let free = disk.as_ref().map(|disk| number(disk.f_bavail.saturating_mul(disk.f_frsize)));
    let size = disk.as_ref().map_or(0, |disk| number(disk.f_blocks.saturating_mul(disk.f_frsize)));
    // Some file systems have as many inodes as they like, and say zero.
    let inodes = disk.as_ref().filter(|disk| disk.f_files > 0);
    let inodes_free = inodes.map(|disk| number(disk.f_favail));
    let inodes_all = inodes.map_or(0, |disk| number(disk.f_files));
    let pid_max = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let pid_max: i64 = pid_max.and_then(|text| text.trim().parse().ok()).unwrap_or(i64::MAX);
    Health {
        runtime: None,
        memory_pressure: below("memory.available", meminfo("MemAvailable:"), ctx.machine.memory),
        disk_pressure: below("nodefs.available", free, size)
            || below("nodefs.inodesFree", inodes_free, inodes_all),
        pid_pressure: below("pid.available", processes().map(|used| pid_max - used), pid_max),
    }
}

/// The number of tasks, from the fourth word of `/proc/loadavg`: `running/all`.
fn processes() -> Option<i64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}
