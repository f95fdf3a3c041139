//! Amounts per node, summed up over the domains of a topology label. One node's change costs one addition.

use std::collections::HashMap;

use crate::cluster::Slot;

const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    ids: HashMap<String, u32, ahash::RandomState>,
    places: Vec<Place>,
    domains: Vec<Domain>,
    /// Of all members.
    sum: i64,
}

/// What is counted on one node.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    domain: u32,
    /// Whether the node's amount counts in its domain.
    member: bool,
    amount: i64,
}

const EMPTY: Place = Place { domain: NOWHERE, member: false, amount: 0 };

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Domain {
    pub members: u32,
    pub total: i64,
}

impl Tally {
    /// What is on a node now. `domain` is the value of its label.
    pub fn set(&mut self, slot: Slot, domain: Option<&str>, member: bool, amount: i64) {
        if self.places.len() <= slot {
            self.places.resize(slot + 1, EMPTY);
        }
        let domain = domain.map_or(NOWHERE, |value| self.id(value));
        let new = Place { domain, member: member && domain != NOWHERE, amount };
        let Some(place) = self.places.get_mut(slot) else { return };
        let old = std::mem::replace(place, new);
        self.count(old, false);
        self.count(new, true);
    }

    /// The node's amount grows, or (negative) shrinks.
    pub fn add(&mut self, slot: Slot, change: i64) {
        let Some(place) = self.places.get_mut(slot) else { return };
        place.amount += change;
        if place.member
            && let Some(domain) = self.domains.get_mut(place.domain as usize)
        {
            domain.total += change;
            self.sum += change;
        }
    }

    fn count(&mut self, place: Place, add: bool) {
        if !place.member {
            return;
        }
        let Some(domain) = self.domains.get_mut(place.domain as usize) else { return };
        if add {
            domain.members += 1;
            domain.total += place.amount;
            self.sum += place.amount;
        } else {
            domain.members -= 1;
            domain.total -= place.amount;
            self.sum -= place.amount;
        }
    }

    fn id(&mut self, value: &str) -> u32 {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        let id = u32::try_from(self.domains.len()).unwrap_or(NOWHERE);
        self.domains.push(Domain::default());
        self.ids.insert(value.to_owned(), id);
        id
    }

    /// The number of the node's domain, if the node has the label.
    pub fn domain(&self, slot: Slot) -> Option<usize> {
        let domain = self.places.get(slot)?.domain;
        (domain != NOWHERE).then_some(domain as usize)
    }

    pub fn amount(&self, slot: Slot) -> i64 {
        self.places.get(slot).map_or(0, |place| place.amount)
    }

    /// The total of the node's domain, if the node has the label.
    pub fn total(&self, slot: Slot) -> Option<i64> {
        self.domains.get(self.domain(slot)?).map(|domain| domain.total)
    }

    /// As [`Tally::total`], if the node's amount were another.
    pub fn total_if(&self, slot: Slot, amount: i64) -> Option<i64> {
        Some(self.total(slot)? + self.change_if(slot, amount))
    }

    fn change_if(&self, slot: Slot, amount: i64) -> i64 {
        self.places.get(slot).filter(|place| place.member).map_or(0, |place| amount - place.amount)
    }

    pub fn sum(&self) -> i64 {
        self.sum
    }

    pub fn sum_if(&self, slot: Slot, amount: i64) -> i64 {
        self.sum + self.change_if(slot, amount)
    }

    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The smallest total of a domain that has members, and how many such domains there are.
    pub fn least(&self) -> (i64, usize) {
        least(self.domains.iter().copied())
    }

    /// As [`Tally::least`], if the node's amount were another.
    pub fn least_if(&self, slot: Slot, amount: i64) -> (i64, usize) {
        let changed = self.domain(slot);
        let change = self.change_if(slot, amount);
        least(self.domains.iter().enumerate().map(|(id, domain)| {
            if Some(id) == changed { Domain { total: domain.total + change, ..*domain } } else { *domain }
        }))
    }

    /// Totals by label value, to compare with those that were come by in another way.
    #[cfg(test)]
    pub fn by_value(&self) -> std::collections::BTreeMap<String, (u32, i64)> {
        let known = self.ids.iter().map(|(value, id)| (value.clone(), self.domains[*id as usize]));
        known
            .filter(|(_, domain)| domain.members > 0)
            .map(|(value, domain)| (value, (domain.members, domain.total)))
            .collect()
    }
}

fn least(domains: impl Iterator<Item = Domain>) -> (i64, usize) {
    let mut count = 0;
    let mut least = i64::MAX;
    for domain in domains.filter(|domain| domain.members > 0) {
        count += 1;
        least = least.min(domain.total);
    }
    (if count == 0 { 0 } else { least }, count)
}
