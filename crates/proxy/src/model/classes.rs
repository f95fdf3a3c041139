//! Numbers of classes.

use std::collections::{BTreeSet, HashMap};

use super::presence::Presence;
use super::{ID_BITS, NumberedClass};
use crate::class::Class;

pub(super) const REJECT: u32 = 0;
const DROP: u32 = 1;
const FIRST_FREE: u32 = 2;
const LIMIT: u32 = 1 << (32 - ID_BITS);

/// Which classes are in use, and the number of each. Freed numbers are given out again.
pub(super) struct Classes {
    pub hints: HashMap<Class, u32>,
    numbers: HashMap<Class, u32>,
    used: BTreeSet<u32>,
    presence: Presence<(bool, Class)>,
}

impl Default for Classes {
    fn default() -> Self {
        Self {
            hints: HashMap::new(),
            numbers: HashMap::from([(Class::Reject, REJECT), (Class::Drop, DROP)]),
            used: BTreeSet::from([REJECT, DROP]),
            presence: Presence::default(),
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

    /// What came into use and what went out of it since the last call.
    pub fn finish(&mut self) -> (Vec<NumberedClass>, Vec<NumberedClass>) {
        let (added, removed) = self.presence.finish();
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

    pub fn all(&self) -> Vec<NumberedClass> {
        self.presence.iter().filter_map(|class| self.numbered(*class)).collect()
    }
}
