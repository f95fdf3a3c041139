//! Who may speak to whom about what: a pure function of a profile and a class.

use std::collections::BTreeMap;

use crate::policy::Port;

/// What addresses that are alike belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    /// A piece of the address space: a rule for everybody means it.
    pub everybody: bool,
    /// Selections of pods, sorted.
    pub selections: Vec<u32>,
    /// Blocks of addresses, sorted.
    pub blocks: Vec<u32>,
    /// Named ports that some rule asks for: protocol, name, number.
    pub ports: Vec<(u8, String, u16)>,
}

/// What the policies of a pod allow it in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Profile {
    pub rules: Vec<Resolved>,
}

/// A rule with numbers in place of selectors and blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Resolved {
    pub everybody: bool,
    pub selections: Vec<u32>,
    pub blocks: Vec<u32>,
    pub ports: Option<Vec<Port>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Allowance {
    Everything,
    Port { protocol: u8, port: u16 },
    Range { protocol: u8, first: u16, last: u16 },
}

impl Profile {
    /// What a pod with this profile may speak about with an address of that class; without overlap.
    pub fn allows(&self, class: &Class) -> Vec<Allowance> {
        let mut ranges: BTreeMap<u8, Vec<(u16, u16)>> = BTreeMap::new();
        for rule in &self.rules {
            let meant = rule.everybody && class.everybody
                || common(&rule.selections, &class.selections)
                || common(&rule.blocks, &class.blocks);
            let Some(ports) = &rule.ports else {
                if meant {
                    return vec![Allowance::Everything];
                }
                continue;
            };
            for port in ports {
                match port {
                    Port::Range { protocol, first, last } if meant => {
                        ranges.entry(*protocol).or_default().push((*first, *last));
                    }
                    // A rule for everybody is asked about pods too when it needs their names of ports.
                    Port::Named { protocol, name } if meant || rule.everybody => {
                        let found = class.ports.iter().filter(|(p, n, _)| p == protocol && n == name);
                        let numbers = found.map(|(_, _, number)| (*number, *number));
                        ranges.entry(*protocol).or_default().extend(numbers);
                    }
                    _ => {}
                }
            }
        }
        let merged = ranges.into_iter().flat_map(|(protocol, ranges)| {
            merge(ranges).into_iter().map(move |(first, last)| match first == last {
                true => Allowance::Port { protocol, port: first },
                false => Allowance::Range { protocol, first, last },
            })
        });
        merged.collect()
    }
}

/// Whether two sorted lists have something in common.
fn common(one: &[u32], other: &[u32]) -> bool {
    one.iter().any(|number| other.binary_search(number).is_ok())
}

/// The same numbers in ranges that neither overlap nor touch.
fn merge(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}
