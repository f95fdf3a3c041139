//! Backend sets: the endpoints of one port under one policy in one address family, in numbered slots.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use net::IpNet;

use super::{Change, Element};
use crate::render::{Backend, Policy};
use crate::service::Protocol;

/// A backend set as the kernel has it.
#[derive(Clone, Debug)]
pub(super) struct Set {
    port: String,
    protocol: Protocol,
    policy: Policy,
    ipv6: bool,
    /// 0 when there are too many sets: then it has no elements.
    pub id: u32,
    /// A random number picks a slot, so there are no gaps.
    pub slots: Vec<SocketAddr>,
    /// What clients remember instead of slots, for as many; none unless they are to stick.
    numbers: Vec<u32>,
    pub affinity: u32,
    ranges: Vec<IpNet>,
}

impl Set {
    /// A set with fresh slots, or those that the kernel has under its id.
    pub fn new(
        id: u32,
        backend: &Backend,
        slots: &[SocketAddr],
        numbers: &HashMap<(u32, SocketAddr), u32>,
    ) -> Self {
        Self::with(id, backend, slots, |address| numbers.get(&(id, *address)).copied())
    }

    /// The set with other endpoints and options.
    pub fn changed(&self, backend: &Backend) -> Self {
        let known: HashMap<SocketAddr, u32> =
            self.slots.iter().copied().zip(self.numbers.iter().copied()).collect();
        Self::with(self.id, backend, &self.slots, |address| known.get(address).copied())
    }

    fn with(
        id: u32,
        backend: &Backend,
        old_slots: &[SocketAddr],
        known: impl Fn(&SocketAddr) -> Option<u32>,
    ) -> Self {
        let slots = reslot(old_slots, &backend.endpoints);
        let numbers = if backend.affinity > 0 {
            let mut next = slots.iter().filter_map(&known).max().map_or(0, |last| last.wrapping_add(1));
            let mut number = |address| {
                known(address).unwrap_or_else(|| {
                    next = next.wrapping_add(1);
                    next.wrapping_sub(1)
                })
            };
            slots.iter().map(&mut number).collect()
        } else {
            Vec::new()
        };
        Self {
            port: backend.port.clone(),
            protocol: backend.protocol,
            policy: backend.policy,
            ipv6: backend.ipv6,
            id,
            slots,
            numbers,
            affinity: backend.affinity,
            ranges: backend.ranges.clone(),
        }
    }

    /// Whether it is the set that `backend` means.
    pub fn is(&self, backend: &Backend) -> bool {
        self.port == backend.port
            && self.protocol == backend.protocol
            && self.policy == backend.policy
            && self.ipv6 == backend.ipv6
    }

    pub fn elements(&self) -> Vec<Element> {
        let id = self.id;
        if id == 0 {
            return Vec::new();
        }
        let mut elements = Vec::with_capacity(self.slots.len() + self.numbers.len() + self.ranges.len());
        for (slot, address) in (0..).zip(&self.slots) {
            match self.numbers.get(slot as usize) {
                None => elements.push(Element::Endpoint { id, slot, address: *address }),
                Some(&number) => {
                    elements.push(Element::Number { id, slot, number, ipv6: self.ipv6 });
                    elements.push(Element::Numbered { id, number, address: *address });
                }
            }
        }
        elements.extend(self.ranges.iter().map(|range| Element::Range { id, range: *range }));
        elements
    }

    /// What must change in the kernel that holds `old`, a set of the same id.
    pub fn differ(&self, old: &Self, change: &mut Change) {
        let simple = |set: &Self| set.numbers.is_empty() && set.ranges.is_empty();
        if simple(self) && simple(old) {
            return self.differ_in_slots(old, change);
        }
        let (before, after): (HashSet<Element>, HashSet<Element>) =
            (old.elements().into_iter().collect(), self.elements().into_iter().collect());
        change.remove.extend(before.difference(&after).cloned());
        change.add.extend(after.difference(&before).cloned());
    }

    /// The common case, without building anything that does not differ.
    fn differ_in_slots(&self, old: &Self, change: &mut Change) {
        let id = self.id;
        if id == 0 {
            return;
        }
        let at = |slots: &[SocketAddr], index: usize| {
            let address = *slots.get(index)?;
            Some(Element::Endpoint { id, slot: index as u32, address })
        };
        for index in 0..self.slots.len().max(old.slots.len()) {
            if self.slots.get(index) != old.slots.get(index) {
                change.remove.extend(at(&old.slots, index));
                change.add.extend(at(&self.slots, index));
            }
        }
    }
}

/// Puts `wanted` (sorted) into slots so that as few as can be change.
fn reslot(old: &[SocketAddr], wanted: &[SocketAddr]) -> Vec<SocketAddr> {
    if old.is_empty() {
        return wanted.to_vec();
    }
    let mut kept = vec![false; wanted.len()];
    let mut slots: Vec<Option<SocketAddr>> = vec![None; wanted.len()];
    for (slot, address) in slots.iter_mut().zip(old) {
        if let Ok(index) = wanted.binary_search(address)
            && !std::mem::replace(&mut kept[index], true)
        {
            *slot = Some(*address);
        }
    }
    // As many are left over as there are gaps.
    let mut others = wanted.iter().zip(kept).filter(|(_, kept)| !kept).map(|(address, _)| *address);
    let mut slots: Vec<SocketAddr> =
        slots.into_iter().filter_map(|slot| slot.or_else(|| others.next())).collect();
    slots.shrink_to_fit();
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(numbers: &std::collections::BTreeSet<u8>) -> Vec<SocketAddr> {
        numbers.iter().map(|n| SocketAddr::from(([10, 0, 0, *n], 80))).collect()
    }

    proptest! {
        #[test]
        fn slots_hold_what_is_wanted_and_move_little(
            old in proptest::collection::btree_set(any::<u8>(), 0..40),
            new in proptest::collection::btree_set(any::<u8>(), 0..40),
        ) {
            let wanted = addresses(&new);
            let before = addresses(&old);
            let slots = reslot(&before, &wanted);
            let mut sorted = slots.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &wanted);
            for (index, address) in before.iter().enumerate().take(slots.len()) {
                if wanted.contains(address) {
                    prop_assert_eq!(slots[index], *address, "it could stay where it was");
                }
            }
        }
    }
}
