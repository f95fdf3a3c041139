//! How much memory each NUMA node has for pods, and which nodes may give some together. Pure.

use std::collections::BTreeMap;

use super::state::{Block, Node, Nodes, Table};
use crate::config::KubeletConfiguration;
use crate::container::quantity::value;
use crate::node::machine_info::threshold_of;
use crate::numa::Mask;
use crate::numa::machine::Machine;

/// What there is, less `reservedMemory`, which has to be what is kept from pods on the node as a whole.
pub fn empty(config: &KubeletConfiguration, machine: &Machine) -> Result<Nodes, String> {
    let mut reserved: BTreeMap<(u32, String), u64> = BTreeMap::new();
    for reservation in &config.reserved_memory {
        if !machine.nodes.contains_key(&reservation.numa_node) {
            return Err(format!(
                "reservedMemory names the NUMA node {}, which is not there",
                reservation.numa_node
            ));
        }
        for (kind, amount) in &reservation.limits {
            let bytes = value(amount).and_then(|bytes| u64::try_from(bytes).ok());
            let bytes =
                bytes.ok_or_else(|| format!("reservedMemory: {amount:?} is not an amount of {kind}"))?;
            *reserved.entry((reservation.numa_node, kind.clone())).or_default() += bytes;
        }
    }
    check(config, machine, &reserved)?;
    let node = |(id, node): (&u32, &crate::numa::machine::Node)| {
        let table = |kind: &str, total: u64, used: u64| {
            let system_reserved = reserved.get(&(*id, kind.to_owned())).copied().unwrap_or(0);
            let allocatable = total.saturating_sub(system_reserved).saturating_sub(used);
            (kind.to_owned(), Table { total, system_reserved, allocatable, reserved: 0, free: allocatable })
        };
        let pages = node.hugepages.iter();
        let mut tables: BTreeMap<String, Table> =
            pages.map(|(size, bytes)| table(&format!("hugepages-{size}"), *bytes, 0)).collect();
        let (kind, memory) = table("memory", node.memory, node.hugepages.values().sum());
        tables.insert(kind, memory);
        (*id, Node { number_of_assignments: 0, memory_map: tables, cells: vec![*id] })
    };
    Ok(machine.nodes.iter().map(node).collect())
}

fn check(
    config: &KubeletConfiguration,
    machine: &Machine,
    reserved: &BTreeMap<(u32, String), u64>,
) -> Result<(), String> {
    let sum: u64 = reserved.iter().filter(|((_, kind), _)| kind == "memory").map(|(_, bytes)| bytes).sum();
    if sum == 0 {
        return Err("you should specify the system reserved memory (reservedMemory)".into());
    }
    let total: u64 = machine.nodes.values().map(|node| node.memory).sum();
    let of = |map: &BTreeMap<String, String>| map.get("memory").and_then(|text| value(text)).unwrap_or(0);
    let evicted = config.hard_threshold("memory.available");
    let evicted = evicted.map_or(0, |bound| threshold_of(bound, i64::try_from(total).unwrap_or(i64::MAX)));
    let kept = of(&config.kube_reserved) + of(&config.system_reserved) + evicted;
    if u64::try_from(kept).unwrap_or(0) != sum {
        return Err(format!(
            "the total amount \"{sum}\" of type \"memory\" is not equal to the value \"{kept}\" determined by Node Allocatable feature"
        ));
    }
    Ok(())
}

pub fn sum(nodes: &Nodes, mask: Mask, kind: &str, of: impl Fn(&Table) -> u64) -> u64 {
    let tables = mask.nodes().filter_map(|id| nodes.get(&id)?.memory_map.get(kind));
    tables.map(of).fold(0, u64::saturating_add)
}

/// A node gives memory alone, or always with the same others.
pub fn may_give_together(nodes: &Nodes, mask: Mask) -> bool {
    mask.nodes().filter_map(|id| nodes.get(&id)).all(|node| {
        let group = Mask::of(node.cells.iter().copied());
        if mask.count() == 1 { group.count() <= 1 } else { node.number_of_assignments == 0 || group == mask }
    })
}

/// Counts a block as given, from the first node that has some to the last.
pub fn take(nodes: &mut Nodes, block: &Block) {
    let mut missing = block.size;
    for id in &block.numa_affinity {
        let Some(node) = nodes.get_mut(id) else { continue };
        node.number_of_assignments += 1;
        node.cells.clone_from(&block.numa_affinity);
        let Some(table) = node.memory_map.get_mut(&block.kind) else { continue };
        let taken = table.free.min(missing);
        table.free -= taken;
        table.reserved += taken;
        missing -= taken;
    }
}
