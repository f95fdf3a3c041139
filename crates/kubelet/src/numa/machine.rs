//! Processors, caches and memory by NUMA node, as the kernel tells of them in `/sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::Mask;
use crate::cpus::set::{self, Set};

/// Where a hardware thread is. Cores and caches are called after their first thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub core: u32,
    pub socket: u32,
    pub node: u32,
    /// The last cache before the memory, which threads share.
    pub cache: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Bytes.
    pub memory: u64,
    /// By page size (`2Mi`): bytes.
    pub hugepages: BTreeMap<String, u64>,
    pub distances: BTreeMap<u32, u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    pub cpus: BTreeMap<u32, Cpu>,
    pub nodes: BTreeMap<u32, Node>,
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl Machine {
    /// `root` is where `/sys` is.
    pub fn read(root: &Path) -> Self {
        let devices = root.join("devices/system");
        let mut nodes = BTreeMap::new();
        let mut node_of = BTreeMap::new();
        for id in set::parse(&text(&devices.join("node/online"))) {
            let dir = devices.join(format!("node/node{id}"));
            node_of.extend(set::parse(&text(&dir.join("cpulist"))).into_iter().map(|cpu| (cpu, id)));
            nodes.insert(id, node(&dir));
        }
        // Distances are told in the order of the nodes.
        let ids: Vec<u32> = nodes.keys().copied().collect();
        for (id, node) in &mut nodes {
            let line = text(&devices.join(format!("node/node{id}/distance")));
            let distances = line.split_whitespace().filter_map(|word| word.parse().ok());
            node.distances = ids.iter().copied().zip(distances).collect();
        }
        if nodes.is_empty() {
            let memory = crate::node::machine_info::meminfo("MemTotal:").unwrap_or(0);
            nodes.insert(0, Node { memory: u64::try_from(memory).unwrap_or(0), ..Default::default() });
        }
        let online = set::parse(&text(&devices.join("cpu/online")));
        let cpu = |id: u32| {
            let dir = devices.join(format!("cpu/cpu{id}"));
            let first = |path: &str| set::parse(&text(&dir.join(path))).first().copied();
            let socket = text(&dir.join("topology/physical_package_id")).parse().unwrap_or(0);
            let node = node_of.get(&id).copied().unwrap_or(0);
            let core = first("topology/thread_siblings_list").unwrap_or(id);
            (id, Cpu { core, socket, node, cache: last_cache(&dir).unwrap_or(node) })
        };
        Self { cpus: online.into_iter().map(cpu).collect(), nodes }
    }

    pub fn mask(&self) -> Mask {
        Mask::of(self.nodes.keys().copied())
    }

    /// The mean distance between the nodes of a mask, in hundredths.
    pub fn distance(&self, mask: Mask) -> u64 {
        let pairs = mask.nodes().flat_map(|a| mask.nodes().map(move |b| (a, b)));
        let of = |(a, b): (u32, u32)| Some(*self.nodes.get(&a)?.distances.get(&b)?);
        let sum: u64 = pairs.filter_map(of).sum();
        let count = u64::try_from(mask.count().pow(2)).unwrap_or(u64::MAX).max(1);
        sum.saturating_mul(100) / count
    }

    pub fn all(&self) -> Set {
        self.cpus.keys().copied().collect()
    }

    /// Those of `cpus` that are in the nodes.
    pub fn within(&self, cpus: &Set, mask: Mask) -> Set {
        let inside = |cpu: &&u32| self.cpus.get(cpu).is_some_and(|at| mask.has(at.node));
        cpus.iter().filter(inside).copied().collect()
    }

    /// Threads of a core.
    pub fn threads(&self) -> usize {
        let cores: BTreeSet<u32> = self.cpus.values().map(|cpu| cpu.core).collect();
        self.cpus.len().checked_div(cores.len()).unwrap_or(1).max(1)
    }

    /// Those of `cpus` whose cores are wholly among them.
    pub fn whole_cores(&self, cpus: &Set) -> Set {
        let whole = |core: u32| self.cpus.iter().all(|(id, at)| at.core != core || cpus.contains(id));
        let inside = |cpu: &&u32| self.cpus.get(cpu).is_some_and(|at| whole(at.core));
        cpus.iter().filter(inside).copied().collect()
    }

    /// Sockets whose nodes are `mask`'s, and as few as there could be.
    pub fn is_socket(&self, mask: Mask, least: usize) -> bool {
        let sockets = |nodes: Mask| -> BTreeSet<u32> {
            self.cpus.values().filter(|cpu| nodes.has(cpu.node)).map(|cpu| cpu.socket).collect()
        };
        let all: BTreeSet<u32> = self.cpus.values().map(|cpu| cpu.socket).collect();
        let per_socket = self.nodes.len().checked_div(all.len()).unwrap_or(1).max(1);
        sockets(mask).len() == least.div_ceil(per_socket)
    }
}

fn node(dir: &Path) -> Node {
    // Node 0 MemTotal:       24607100 kB
    let meminfo = text(&dir.join("meminfo"));
    let total = meminfo.lines().find_map(|line| line.split_once("MemTotal:"));
    let kib: u64 = total.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    Node {
        memory: kib.saturating_mul(1024),
        hugepages: crate::node::machine_info::hugepages(&dir.join("hugepages"))
            .into_iter()
            .map(|(size, bytes)| (size, u64::try_from(bytes).unwrap_or(0)))
            .collect(),
        distances: BTreeMap::new(),
    }
}

/// The first thread that shares the largest cache with this one.
fn last_cache(dir: &Path) -> Option<u32> {
    let caches = fs::read_dir(dir.join("cache")).ok()?.flatten().map(|entry| entry.path());
    let cache = |path: std::path::PathBuf| {
        let level: u32 = text(&path.join("level")).parse().ok()?;
        Some((level, *set::parse(&text(&path.join("shared_cpu_list"))).first()?))
    };
    caches.filter_map(cache).max().filter(|(level, _)| *level >= 3).map(|(_, first)| first)
}

#[cfg(test)]
impl Machine {
    /// `nodes` of 16 GiB, each in a socket shared by `per_socket` of them, with so many cores and threads. Threads are
    /// numbered as Intel does: first threads of all cores come first. A cache for every two cores.
    pub fn fake(nodes: u32, per_socket: u32, cores: u32, threads: u32) -> Self {
        let all_cores = nodes * cores;
        let cpu = |id: u32| {
            let core = id % all_cores;
            let node = core / cores;
            (id, Cpu { core, socket: node / per_socket, node, cache: core / 2 * 2 })
        };
        let node = |id: u32| {
            let distances = (0..nodes).map(|other| (other, if other == id { 10 } else { 20 })).collect();
            (id, Node { memory: 16 << 30, hugepages: BTreeMap::new(), distances })
        };
        Self { cpus: (0..all_cores * threads).map(cpu).collect(), nodes: (0..nodes).map(node).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join("devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("cpu/online", "0-3\n");
        write("node/online", "0-1\n");
        for cpu in 0..4 {
            let socket = cpu % 2;
            write(&format!("cpu/cpu{cpu}/topology/physical_package_id"), &socket.to_string());
            write(
                &format!("cpu/cpu{cpu}/topology/thread_siblings_list"),
                &format!("{socket},{}", socket + 2),
            );
            write(&format!("cpu/cpu{cpu}/cache/index2/level"), "2");
            write(&format!("cpu/cpu{cpu}/cache/index2/shared_cpu_list"), &cpu.to_string());
            write(&format!("cpu/cpu{cpu}/cache/index3/level"), "3");
            write(&format!("cpu/cpu{cpu}/cache/index3/shared_cpu_list"), &format!("{socket},{}", socket + 2));
        }
        for node in 0..2 {
            write(&format!("node/node{node}/cpulist"), &format!("{node},{}", node + 2));
            write(&format!("node/node{node}/meminfo"), &format!("Node {node} MemTotal:    1024 kB\n"));
            write(&format!("node/node{node}/distance"), if node == 0 { "10 21" } else { "21 10" });
            write(&format!("node/node{node}/hugepages/hugepages-2048kB/nr_hugepages"), "2");
        }
        let machine = Machine::read(root.path());
        assert_eq!(machine.cpus[&3], Cpu { core: 1, socket: 1, node: 1, cache: 1 });
        assert_eq!((machine.nodes[&1].memory, machine.nodes[&1].hugepages["2Mi"]), (1 << 20, 4 << 20));
        assert_eq!(machine.distance(Mask::of([0, 1])), 1550);
        assert_eq!(machine.threads(), 2);
        assert_eq!(set::shown(&machine.whole_cores(&set::parse("0-2"))), "0,2");
        assert!(machine.is_socket(Mask::of([0]), 1) && !machine.is_socket(Mask::of([0, 1]), 1));
    }
}
