//! The paths of the kernel's filesystems that containers do not see, or cannot write, unless they ask for it
//! (`procMount: Unmasked`). Kubelets name them in each request; a runtime falls back to them for clients that name none.

use std::sync::LazyLock;

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// How hot and how throttled each CPU is tells what others compute on it.
static ALL_MASKED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut throttled: Vec<String> = cpus
        .map(|cpu| cpu.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .map(|path| path.display().to_string())
        .collect();
    throttled.sort_unstable();
    MASKED.iter().map(|path| (*path).to_owned()).chain(throttled).collect()
});

/// What is masked on this machine.
pub fn masked_paths() -> Vec<String> {
    ALL_MASKED.clone()
}

pub fn readonly_paths() -> Vec<String> {
    READONLY.map(str::to_owned).into()
}
