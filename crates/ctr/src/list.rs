//! What there is, and what it uses.

use anyhow::Result;
use cri::v1::{
    Container, ContainerState, ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest,
};
use serde_json::json;

use crate::{Ctr, is_running, short, told};

impl Ctr {
    /// One line for each container: those that run, or all.
    pub async fn ps(&mut self, all: bool, quiet: bool) -> Result<String> {
        let containers =
            self.runtime.list_containers(ListContainersRequest::default()).await.map_err(told)?;
        let mut containers = containers.into_inner().containers;
        containers.retain(|c| all || is_running(c));
        containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        if quiet {
            return Ok(containers.iter().map(|c| format!("{}\n", c.id)).collect());
        }
        let sandboxes =
            self.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.map_err(told)?;
        let sandboxes = sandboxes.into_inner().items;
        let mut rows = vec![["CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "POD"].map(str::to_owned)];
        for container in &containers {
            let pod = sandboxes.iter().find(|s| s.id == container.pod_sandbox_id);
            let pod = pod.and_then(|s| s.metadata.as_ref()).map(|m| format!("{}/{}", m.namespace, m.name));
            rows.push([
                short(&container.id).to_owned(),
                container.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
                age(container.created_at),
                state(container).to_owned(),
                container.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
                pod.unwrap_or_default(),
            ]);
        }
        Ok(table(&rows))
    }

    /// What running containers use; CPU since they were last asked about.
    pub async fn stats(&mut self, json: bool) -> Result<String> {
        let request = ListContainerStatsRequest::default;
        let mut stats = self.runtime.list_container_stats(request()).await.map_err(told)?.into_inner().stats;
        if stats.iter().any(|s| s.cpu.as_ref().is_some_and(|c| c.usage_nano_cores.is_none())) {
            // The first answer has no rate: a rate needs two.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            stats = self.runtime.list_container_stats(request()).await.map_err(told)?.into_inner().stats;
        }
        let mut rows = vec![["CONTAINER", "NAME", "CPU %", "MEMORY", "DISK", "INODES"].map(str::to_owned)];
        let mut values = Vec::new();
        for stats in stats {
            let attributes = stats.attributes.unwrap_or_default();
            let cpu = stats.cpu.and_then(|c| c.usage_nano_cores).map_or(0, |v| v.value);
            let memory = stats.memory.and_then(|m| m.working_set_bytes).map_or(0, |v| v.value);
            let layer = stats.writable_layer.unwrap_or_default();
            let (disk, inodes) =
                (layer.used_bytes.map_or(0, |v| v.value), layer.inodes_used.map_or(0, |v| v.value));
            let name = attributes.metadata.map(|m| m.name).unwrap_or_default();
            values.push(json!({"id": attributes.id, "name": name, "cpuNanoCores": cpu,
                "memoryWorkingSetBytes": memory, "diskBytes": disk, "inodes": inodes}));
            rows.push([
                short(&attributes.id).to_owned(),
                name,
                format!("{:.2}", cpu as f64 / 1e7),
                size(memory),
                size(disk),
                inodes.to_string(),
            ]);
        }
        if json { Ok(format!("{}\n", serde_json::to_string_pretty(&values)?)) } else { Ok(table(&rows)) }
    }
}

fn state(container: &Container) -> &'static str {
    match container.state() {
        ContainerState::ContainerCreated => "Created",
        ContainerState::ContainerRunning => "Running",
        ContainerState::ContainerExited => "Exited",
        ContainerState::ContainerUnknown => "Unknown",
    }
}

/// How long ago, of nanoseconds since 1970.
fn age(created: i64) -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    let seconds = (now - i128::from(created)).max(0) / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// As kubectl writes sizes.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Columns as wide as what is in them.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tables() {
        for (bytes, expected) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(size(bytes), expected);
        }
        let rows = [["A", "LONG"], ["bb", "c"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "A    LONG\nbb   c\n");
    }
}
