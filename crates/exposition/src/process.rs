//! What this process uses, under the names that every Prometheus client has for it.

use crate::Page;

/// Clock ticks in `/proc` are hundredths of a second on every architecture that Linux has left.
const TICKS: f64 = 100.0;
const PAGE: f64 = 4096.0;

/// Nothing where `/proc` is not as expected.
pub fn write(page: &mut Page) {
    let Some(process) = read() else { return };
    let mut tell = |name: &str, kind: &str, help: &str, value: f64| {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    };
    tell(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        process.cpu,
    );
    tell("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", process.resident);
    tell("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", process.virtual_size);
    tell("process_open_fds", "gauge", "Number of open file descriptors.", process.files);
    tell(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        process.started,
    );
}

struct Process {
    cpu: f64,
    resident: f64,
    virtual_size: f64,
    files: f64,
    started: f64,
}

fn read() -> Option<Process> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<f64> =
        fields.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect();
    // Numbered from the fourth one on.
    let field = |number: usize| fields.get(number - 4).copied();
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Process {
        cpu: (field(14)? + field(15)?) / TICKS,
        virtual_size: field(23)?,
        resident: field(24)? * PAGE,
        files: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        started: boot + field(22)? / TICKS,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_something() {
        let process = super::read().expect("as on Linux");
        assert!(process.resident > 0.0 && process.virtual_size > process.resident && process.files > 2.0);
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
        assert!(process.started > now - 86_400.0 && process.started < now + 5.0, "{}", process.started);
        let mut page = super::Page::default();
        super::write(&mut page);
        assert!(page.text().contains("\nprocess_open_fds "));
    }
}
