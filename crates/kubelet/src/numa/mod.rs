//! Which NUMA nodes the parts of a container's resources come from: the topology manager's pure half.
//!
//! Each manager (CPUs, memory, devices) gives hints: sets of nodes that could serve a request. [`policy`] joins them to one,
//! and says whether the pod may run; [`machine`] is what the kernel tells of the hardware.

pub mod machine;
pub mod policy;

use std::collections::BTreeMap;

/// A set of NUMA nodes, which have numbers below 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mask(u64);

impl Mask {
    pub fn of(nodes: impl IntoIterator<Item = u32>) -> Self {
        Self(nodes.into_iter().filter_map(|node| 1_u64.checked_shl(node)).fold(0, |mask, bit| mask | bit))
    }

    pub fn nodes(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |node| self.has(*node))
    }

    pub fn has(self, node: u32) -> bool {
        1_u64.checked_shl(node).is_some_and(|bit| self.0 & bit != 0)
    }

    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Fewer nodes, or as many and lower ones.
    pub fn is_narrower_than(self, other: Self) -> bool {
        (self.count(), self.0) < (other.count(), other.0)
    }
}

/// Every set of some of the nodes, smaller ones first, then lower ones.
pub fn masks(all: Mask) -> Vec<Mask> {
    let nodes: Vec<u32> = all.nodes().collect();
    // The policy allows no more nodes than that by default, and few more at all.
    let nodes = nodes.get(..nodes.len().min(16)).unwrap_or_default();
    let mut masks: Vec<Mask> = (1..1_u32 << nodes.len())
        .map(|chosen| {
            let of = nodes.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0);
            Mask::of(of.map(|(_, node)| *node))
        })
        .collect();
    masks.sort_unstable_by_key(|mask| (mask.count(), mask.nodes().collect::<Vec<_>>()));
    masks
}

/// Nodes that could serve a request. `preferred`: not more nodes than the request needs at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Nothing: any.
    pub mask: Option<Mask>,
    pub preferred: bool,
}

/// By resource: nothing where it does not matter, an empty list where nothing could serve.
pub type Hints = BTreeMap<String, Option<Vec<Hint>>>;

/// Every set of nodes that `serves`; preferred are those of no more nodes than the smallest that `could`, were all free.
pub fn hints(all: Mask, could: impl Fn(Mask) -> bool, serves: impl Fn(Mask) -> bool) -> Vec<Hint> {
    let masks = masks(all);
    let least = masks.iter().filter(|mask| could(**mask)).map(|mask| mask.count()).min();
    let least = least.unwrap_or(all.count());
    let hint = |mask: Mask| Hint { mask: Some(mask), preferred: mask.count() == least };
    masks.into_iter().filter(|mask| serves(*mask)).map(hint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_nodes() {
        let shown: Vec<Vec<u32>> =
            masks(Mask::of([0, 1, 3])).iter().map(|mask| mask.nodes().collect()).collect();
        assert_eq!(shown, [vec![0], vec![1], vec![3], vec![0, 1], vec![0, 3], vec![1, 3], vec![0, 1, 3]]);
        assert!(Mask::of([1]).is_narrower_than(Mask::of([0, 1])));
        assert!(Mask::of([0]).is_narrower_than(Mask::of([1])));
        assert!(Mask::of([64, 200]).is_empty());
    }

    #[test]
    fn the_smallest_sets_are_preferred() {
        let hints = hints(Mask::of([0, 1]), |_| true, |mask| mask.has(1));
        let shown: Vec<(Mask, bool)> =
            hints.iter().map(|hint| (hint.mask.unwrap(), hint.preferred)).collect();
        assert_eq!(shown, [(Mask::of([1]), true), (Mask::of([0, 1]), false)]);
    }
}
