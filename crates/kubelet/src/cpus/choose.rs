//! Which CPUs a container gets: as near to each other as there are, or spread evenly over NUMA nodes. Pure.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::options::Options;
use super::set::Set;
use crate::numa::machine::{Cpu, Machine};
use crate::numa::{Mask, masks};

/// So many of the free CPUs; nothing if there are too few.
pub fn choose(machine: &Machine, options: &Options, free: &Set, wanted: usize) -> Option<Set> {
    if options.distribute_across_numa {
        let group = if options.full_pcpus_only { machine.threads() } else { 1 };
        if let Some(chosen) = distributed(machine, options, free, wanted, group) {
            return Some(chosen);
        }
    }
    packed(machine, options, free, wanted)
}

/// Sockets, NUMA nodes, cores, and then threads: whatever can be had as a whole.
fn packed(machine: &Machine, options: &Options, free: &Set, wanted: usize) -> Option<Set> {
    if wanted > free.len() {
        return None;
    }
    let mut packing = Packing { machine, free: free.clone(), chosen: Set::new(), missing: wanted };
    let sockets: BTreeSet<u32> = machine.cpus.values().map(|cpu| cpu.socket).collect();
    // Where a NUMA node has several sockets, it is the larger thing.
    if sockets.len() >= machine.nodes.len() {
        packing.take_whole(|cpu| cpu.node);
        packing.take_whole(|cpu| cpu.socket);
    } else {
        packing.take_whole(|cpu| cpu.socket);
        packing.take_whole(|cpu| cpu.node);
    }
    if options.align_by_cache {
        packing.take_whole(|cpu| cpu.cache);
        packing.take_of_one_cache();
    }
    packing.take_cores();
    packing.take_threads();
    (packing.missing == 0).then_some(packing.chosen)
}

struct Packing<'a> {
    machine: &'a Machine,
    free: Set,
    chosen: Set,
    missing: usize,
}

impl Packing<'_> {
    fn at(&self, cpu: u32) -> Option<Cpu> {
        self.machine.cpus.get(&cpu).copied()
    }

    fn take(&mut self, cpus: &Set) {
        self.missing = self.missing.saturating_sub(cpus.len());
        self.chosen.extend(cpus);
        self.free.retain(|cpu| !cpus.contains(cpu));
    }

    fn free_in(&self, of: impl Fn(Cpu) -> u32, id: u32) -> Set {
        self.free.iter().copied().filter(|cpu| self.at(*cpu).map(&of) == Some(id)).collect()
    }

    fn all_in(&self, of: impl Fn(Cpu) -> u32, id: u32) -> Set {
        self.machine.cpus.iter().filter(|(_, at)| of(**at) == id).map(|(cpu, _)| *cpu).collect()
    }

    /// Those with most of what was chosen already come first, then the fullest, then the first.
    fn order(&self, of: impl Fn(Cpu) -> u32 + Copy, id: u32) -> (Reverse<usize>, usize, u32) {
        let near = self.all_in(of, id).intersection(&self.chosen).count();
        (Reverse(near), self.free_in(of, id).len(), id)
    }

    fn groups(&self, of: impl Fn(Cpu) -> u32 + Copy) -> Vec<u32> {
        let ids: BTreeSet<u32> = self.free.iter().filter_map(|cpu| self.at(*cpu).map(of)).collect();
        let mut ids: Vec<u32> = ids.into_iter().collect();
        ids.sort_by_cached_key(|id| self.order(of, *id));
        ids
    }

    /// Groups of which nothing is taken, as long as no less is missing.
    fn take_whole(&mut self, of: impl Fn(Cpu) -> u32 + Copy) {
        for id in self.groups(of) {
            let (free, all) = (self.free_in(of, id), self.all_in(of, id));
            if free.len() == all.len() && free.len() <= self.missing {
                self.take(&free);
            }
        }
    }

    /// One cache that has all that is missing.
    fn take_of_one_cache(&mut self) {
        let threads = self.machine.threads();
        for id in self.groups(|cpu| cpu.cache) {
            let free = self.free_in(|cpu| cpu.cache, id);
            let cores = self.machine.whole_cores(&free);
            if free.len() < self.missing || cores.len() < self.missing / threads * threads {
                continue;
            }
            let outside: Set = self.free.difference(&free).copied().collect();
            self.free = free;
            self.take_cores();
            self.take_threads();
            self.free.extend(outside);
            return;
        }
    }

    /// Cores in the order of their sockets and nodes.
    fn cores(&self) -> Vec<u32> {
        let mut cores = self.groups(|cpu| cpu.core);
        cores.sort_by_cached_key(|core| {
            let at = self.at(*core);
            (
                at.map(|at| self.order(|cpu| cpu.socket, at.socket)),
                at.map(|at| self.order(|cpu| cpu.node, at.node)),
                self.order(|cpu| cpu.core, *core),
            )
        });
        cores
    }

    fn take_cores(&mut self) {
        for core in self.cores() {
            let (free, all) = (self.free_in(|cpu| cpu.core, core), self.all_in(|cpu| cpu.core, core));
            if free.len() == all.len() && free.len() <= self.missing {
                self.take(&free);
            }
        }
    }

    fn take_threads(&mut self) {
        for core in self.cores() {
            let some = self.free_in(|cpu| cpu.core, core).into_iter().take(self.missing).collect();
            self.take(&some);
        }
    }
}

/// As much of each node, of as few nodes as can give it; `group` threads belong together.
fn distributed(machine: &Machine, options: &Options, free: &Set, wanted: usize, group: usize) -> Option<Set> {
    if !wanted.is_multiple_of(group) {
        return None;
    }
    let of_node = |node: u32| machine.within(free, Mask::of([node]));
    let available = |node: u32| of_node(node).len() / group * group;
    let all = machine.mask();
    // Nodes that would do, by how even the rest of the machine is left.
    let fits = |mask: Mask| -> Option<(usize, u64, Mask)> {
        let share = wanted / mask.count() / group * group;
        let enough = share > 0 && mask.nodes().all(|node| available(node) >= share);
        let sum: usize = mask.nodes().map(available).sum();
        if !enough || sum < wanted {
            return None;
        }
        let left: Vec<u64> = all
            .nodes()
            .map(|node| available(node).saturating_sub(if mask.has(node) { share } else { 0 }) as u64)
            .collect();
        let mean = left.iter().sum::<u64>() / (left.len() as u64).max(1);
        let uneven = left.iter().map(|left| left.abs_diff(mean).pow(2)).sum();
        Some((mask.count(), uneven, mask))
    };
    let (count, _, mask) = masks(all).into_iter().filter_map(fits).min()?;
    let share = wanted / count / group * group;
    let mut missing = wanted;
    let mut chosen = Set::new();
    for node in mask.nodes() {
        chosen.extend(packed(machine, options, &of_node(node), share)?);
        missing -= share;
    }
    // What does not divide goes to the nodes that have most left.
    while missing > 0 {
        let left = |node: u32| of_node(node).difference(&chosen).copied().collect::<Set>();
        let node = mask.nodes().max_by_key(|node| (left(*node).len(), Reverse(*node)))?;
        let next = group.min(missing);
        chosen.extend(packed(machine, options, &left(node), next)?);
        missing -= next;
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::super::set::{parse, shown};
    use super::*;

    fn check(machine: &Machine, options: Options, free: &str, wanted: usize, expected: Option<&str>) {
        let chosen = choose(machine, &options, &parse(free), wanted);
        assert_eq!(chosen.as_ref().map(shown).as_deref(), expected, "{wanted} of {free}, {options:?}");
    }

    #[test]
    fn near_each_other() {
        // Cores 0-3 (threads 0-3 and 8-11) on node 0, 4-7 (4-7 and 12-15) on node 1.
        let machine = Machine::fake(2, 1, 4, 2);
        let plain = Options::default();
        check(&machine, plain, "0-15", 2, Some("0,8"));
        check(&machine, plain, "0-15", 8, Some("0-3,8-11"));
        check(&machine, plain, "0-15", 1, Some("0"));
        // The core that is broken already, and the node that is fuller.
        check(&machine, plain, "1-15", 1, Some("8"));
        check(&machine, plain, "0-3,5-7,8-11,13-15", 2, Some("5,13"));
        check(&machine, plain, "0-15", 9, Some("0-4,8-11"));
        check(&machine, plain, "1-7,9-15", 8, Some("4-7,12-15"));
        check(&machine, plain, "0-1", 2, Some("0-1"));
        check(&machine, plain, "0-1", 3, None);
    }

    #[test]
    fn as_much_of_each_node() {
        let machine = Machine::fake(2, 1, 4, 2);
        let spread = Options { distribute_across_numa: true, ..Default::default() };
        // One node is enough.
        check(&machine, spread, "0-15", 4, Some("0-1,8-9"));
        check(&machine, spread, "0-15", 10, Some("0-2,4-6,8-9,12-13"));
        check(&machine, spread, "0-15", 12, Some("0-2,4-6,8-10,12-14"));
        let whole = Options { full_pcpus_only: true, ..spread };
        check(&machine, whole, "0-15", 10, Some("0-2,4-5,8-10,12-13"));
        // Too uneven for that.
        check(&machine, spread, "0-3,4,8-11", 9, Some("0-4,8-11"));
    }

    #[test]
    fn one_cache() {
        // Caches for cores 0-1, 2-3 and so on.
        let machine = Machine::fake(1, 1, 8, 1);
        let cached = Options { align_by_cache: true, ..Default::default() };
        check(&machine, cached, "1-7", 2, Some("2-3"));
        check(&machine, Options::default(), "1-7", 2, Some("1-2"));
        check(&machine, cached, "1-7", 3, Some("1-3"));
        check(&machine, cached, "1,3,5", 2, Some("1,3"));
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn exactly_what_is_wanted_and_free(
                free in proptest::collection::btree_set(0_u32..32, 0..32),
                wanted in 0_usize..34,
                spread: bool, cache: bool, whole: bool,
            ) {
                let machine = Machine::fake(4, 2, 4, 2);
                let options = Options {
                    distribute_across_numa: spread, align_by_cache: cache, full_pcpus_only: whole,
                    ..Default::default()
                };
                match choose(&machine, &options, &free, wanted) {
                    Some(chosen) => {
                        prop_assert_eq!(chosen.len(), wanted);
                        prop_assert!(chosen.is_subset(&free));
                    }
                    None => prop_assert!(wanted > free.len()),
                }
            }
        }
    }
}
