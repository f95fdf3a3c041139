//! Numbers of classes.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::presence::Presence;
use super::{ID_BITS, NumberedClass};
use crate::class::Class;

pub(super) const REJECT: u32 = 0;
const DROP: u32 = 1;
const FIRST_FREE: u32 = 2;
const LIMIT: u32 = 1 << (32 - ID_BITS);

/// So many chains that nothing leads to are kept. Making one costs the kernel a walk over all destinations, so a Service
/// that goes from two endpoints to one and back should find both.
const SPARE: usize = 256;

/// Which classes have a chain, and the number of each. Freed numbers are given out again.
pub(super) struct Classes {
    pub hints: HashMap<Class, u32>,
    numbers: HashMap<Class, u32>,
    used: BTreeSet<u32>,
    presence: Presence<(bool, Class)>,
    /// Those that have a chain and no destination.
    spare: HashSet<(bool, Class)>,
}

impl Default for Classes {
    fn default() -> Self {
        Self {
            hints: HashMap::new(),
            numbers: HashMap::from([(Class::Reject, REJECT), (Class::Drop, DROP)]),
            used: BTreeSet::from([REJECT, DROP]),
            presence: Presence::default(),
            spare: HashSet::new(),
        }
    }
}

impl Classes {
    /// The number of a class that is about to be used. None when there are too many: thousands of different numbers of
    /// endpoints.
    pub fn number(&mut self, class: Class) -> Option<u32> {
        if let Some(number) = self.numbers.get(&class) {
            return Some(*number);
        }
        let hinted = self.hints.get(&class).copied();
        let number = hinted.filter(|n| (FIRST_FREE..LIMIT).contains(n) && !self.used.contains(n));
        let free = || {
            let hinted = |number: &u32| self.hints.values().any(|hint| hint == number);
            (FIRST_FREE..LIMIT).find(|number| !self.used.contains(number) && !hinted(number))
        };
        let Some(number) = number.or_else(free) else {
            tracing::error!(limit = LIMIT, "too many different numbers of endpoints and options: rejecting");
            return None;
        };
        self.numbers.insert(class, number);
        self.used.insert(number);
        Some(number)
    }

    pub fn add(&mut self, ipv6: bool, class: Class) {
        self.presence.add((ipv6, class));
    }

    pub fn remove(&mut self, ipv6: bool, class: Class) {
        self.presence.remove(&(ipv6, class));
    }

    fn numbered(&self, (ipv6, class): (bool, Class)) -> Option<NumberedClass> {
        let number = *self.numbers.get(&class)?;
        Some(NumberedClass { ipv6, class, number })
    }

    /// Gives a class a chain before anything leads there.
    pub fn prepare(&mut self, class: Class) {
        if self.number(class).is_some() {
            self.spare.extend([(false, class), (true, class)]);
        }
    }

    /// The chains to be made and to be removed since the last call.
    pub fn finish(&mut self) -> (Vec<NumberedClass>, Vec<NumberedClass>) {
        let (mut added, removed) = self.presence.finish();
        added.retain(|class| !self.spare.remove(class));
        self.spare.extend(removed);
        let removed = if self.spare.len() > SPARE { std::mem::take(&mut self.spare) } else { HashSet::new() };
        let added = added.into_iter().filter_map(|class| self.numbered(class)).collect();
        let removed: Vec<NumberedClass> =
            removed.into_iter().filter_map(|class| self.numbered(class)).collect();
        for gone in &removed {
            let fixed = gone.number < FIRST_FREE;
            let needed = [false, true].iter().any(|v6| self.presence.has(&(*v6, gone.class)));
            if !fixed && !needed {
                self.numbers.remove(&gone.class);
                self.used.remove(&gone.number);
            }
        }
        self.hints.clear();
        (added, removed)
    }

    /// Every chain.
    pub fn all(&self) -> Vec<NumberedClass> {
        let all = self.presence.iter().chain(&self.spare);
        all.filter_map(|class| self.numbered(*class)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{Balance, Masquerade, View};

    fn class(count: u32) -> Class {
        Class::Balance(Balance {
            view: View::Services,
            count,
            masquerade: Masquerade::Never,
            ranges: false,
            affinity: 0,
        })
    }

    #[test]
    fn chains_are_kept_for_a_while_and_then_all_removed() {
        let mut classes = Classes::default();
        let limit = SPARE as u32;
        for count in 1..=limit {
            assert!(classes.number(class(count)).is_some());
            classes.add(false, class(count));
            assert_eq!(classes.finish().0.len(), 1, "made");
            classes.remove(false, class(count));
            assert_eq!(classes.finish(), (Vec::new(), Vec::new()), "kept");
        }
        classes.add(false, class(1));
        assert_eq!(classes.finish(), (Vec::new(), Vec::new()), "used again");
        classes.remove(false, class(1));
        assert!(classes.number(class(limit + 1)).is_some());
        classes.add(false, class(limit + 1));
        classes.finish();
        classes.remove(false, class(limit + 1));
        assert_eq!(classes.finish().1.len(), SPARE + 1, "too many");
        assert_eq!(classes.all(), []);
    }

    #[test]
    fn numbers_run_out_and_come_back() {
        let mut classes = Classes::default();
        let all = (1..).map_while(|count| classes.number(class(count))).count();
        assert_eq!(all, (LIMIT - FIRST_FREE) as usize);
        assert_eq!(classes.number(class(1)), Some(FIRST_FREE), "what has one keeps it");
        for count in 1..=300 {
            classes.add(true, class(count));
        }
        classes.finish();
        for count in 1..=300 {
            classes.remove(true, class(count));
        }
        assert_eq!(classes.finish().1.len(), 300);
        assert!(classes.number(class(100_000)).is_some());
    }
}
