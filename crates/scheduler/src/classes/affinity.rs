//! Where the pods are that a pod wants near or far, and those that want it so.

use std::collections::BTreeMap;

use super::tally::Tally;
use crate::cluster::{Cluster, NodeState, Slot};
use crate::config::Profile;
use crate::labels::Labels;
use crate::plugins::inter_pod_affinity::{
    ANTI_AFFINITY, NO_AFFINITY, Namespaces, OTHERS_ANTI_AFFINITY, Term, Terms,
};
use crate::plugins::{MAX_SCORE, Refusal};
use crate::pod::PodInfo;

pub struct Affinity {
    terms: Terms,
    namespace: String,
    labels: Labels,
    /// The weight of others' required affinity, when nodes are compared.
    hard_weight: i64,
    /// Whether the preferences of others count.
    others_prefer: bool,
    /// The pod is itself what it requires near: the first of a group.
    is_first: bool,
    /// For each required term, pods that all of them pick.
    wanted: Vec<Tally>,
    /// For each required anti-affinity term, pods that it picks.
    refused: Vec<Tally>,
    /// By topology key: terms of others that refuse this pod.
    refusing: Vec<(String, Tally)>,
    /// By topology key: weights for and against.
    preferred: Vec<(String, Tally)>,
}

/// What one node adds.
#[derive(Default)]
struct Share<'a> {
    wanted: i64,
    refused: Vec<i64>,
    refusing: BTreeMap<&'a str, i64>,
    preferred: BTreeMap<&'a str, i64>,
}

impl Affinity {
    pub fn new(
        terms: Terms,
        namespace: &str,
        labels: &Labels,
        profile: &Profile,
        namespaces: &Namespaces,
    ) -> Self {
        let is_first = terms.requires(namespace, Some(labels), namespaces);
        Self {
            namespace: namespace.to_owned(),
            labels: labels.clone(),
            hard_weight: profile.hard_pod_affinity_weight,
            others_prefer: !profile.ignore_preferred_terms_of_existing_pods || !terms.preferred.is_empty(),
            is_first,
            wanted: vec![Tally::default(); terms.required.len()],
            refused: vec![Tally::default(); terms.anti.len()],
            refusing: Vec::new(),
            preferred: Vec::new(),
            terms,
        }
    }

    fn picked_by(&self, term: &Term, namespaces: &Namespaces) -> bool {
        term.picks(&self.namespace, Some(&self.labels), namespaces)
    }

    fn share<'a>(&'a self, node: &'a NodeState, namespaces: &Namespaces) -> Share<'a> {
        let mut share = Share { refused: vec![0; self.terms.anti.len()], ..Share::default() };
        for other in &node.with_terms {
            self.wishes_of(other, &mut share, namespaces);
        }
        if self.has_terms() {
            for other in node.pods.values() {
                self.wishes_about(other, &mut share, namespaces);
            }
        }
        share
    }

    fn has_terms(&self) -> bool {
        !(self.wanted.is_empty() && self.refused.is_empty() && self.terms.preferred.is_empty())
    }

    /// What another pod wishes about this one.
    fn wishes_of<'a>(&'a self, other: &'a PodInfo, share: &mut Share<'a>, namespaces: &Namespaces) {
        let Some(terms) = &other.terms else { return };
        for term in terms.anti.iter().filter(|term| self.picked_by(term, namespaces)) {
            *share.refusing.entry(&term.topology_key).or_default() += 1;
        }
        if !self.others_prefer {
            return;
        }
        if self.hard_weight > 0 {
            for term in terms.required.iter().filter(|term| self.picked_by(term, namespaces)) {
                *share.preferred.entry(&term.topology_key).or_default() += self.hard_weight;
            }
        }
        for (weight, term) in terms.preferred.iter().filter(|(_, term)| self.picked_by(term, namespaces)) {
            *share.preferred.entry(&term.topology_key).or_default() += weight;
        }
    }

    /// What this pod wishes about another.
    fn wishes_about<'a>(&'a self, other: &PodInfo, share: &mut Share<'a>, namespaces: &Namespaces) {
        let (namespace, labels) = (other.namespace(), other.pod.metadata.labels.as_ref());
        share.wanted += i64::from(self.terms.requires(namespace, labels, namespaces));
        for (term, count) in self.terms.anti.iter().zip(&mut share.refused) {
            *count += i64::from(term.picks(namespace, labels, namespaces));
        }
        for (weight, term) in &self.terms.preferred {
            if term.picks(namespace, labels, namespaces) {
                *share.preferred.entry(&term.topology_key).or_default() += weight;
            }
        }
    }

    /// A pod has come to the node or (`sign` being -1) has gone.
    pub fn pod_moved(&mut self, slot: Slot, pod: &PodInfo, sign: i64, cluster: &Cluster) {
        let mut share = Share { refused: vec![0; self.terms.anti.len()], ..Share::default() };
        self.wishes_of(pod, &mut share, &cluster.namespaces);
        if self.has_terms() {
            self.wishes_about(pod, &mut share, &cluster.namespaces);
        }
        let (wanted, refused) = (share.wanted, share.refused.clone());
        let (refusing, preferred) = (owned(share.refusing), owned(share.preferred));
        if wanted != 0 {
            self.wanted.iter_mut().for_each(|tally| tally.add(slot, sign * wanted));
        }
        for (tally, amount) in self.refused.iter_mut().zip(refused) {
            tally.add(slot, sign * amount);
        }
        add_by_key(&mut self.refusing, refusing, slot, sign, cluster);
        add_by_key(&mut self.preferred, preferred, slot, sign, cluster);
    }

    pub fn look_at(&mut self, slot: Slot, cluster: &Cluster) {
        let Some(node) = cluster.nodes.get(slot) else { return };
        let share = self.share(node, &cluster.namespaces);
        let (wanted, refused) = (share.wanted, share.refused.clone());
        let (refusing, preferred) = (owned(share.refusing), owned(share.preferred));
        for (term, tally) in self.terms.required.iter().zip(&mut self.wanted) {
            tally.set(slot, node.label(&term.topology_key), true, wanted);
        }
        for ((term, tally), amount) in self.terms.anti.iter().zip(&mut self.refused).zip(refused) {
            tally.set(slot, node.label(&term.topology_key), true, amount);
        }
        by_key(&mut self.refusing, refusing, slot, cluster);
        by_key(&mut self.preferred, preferred, slot, cluster);
    }

    pub fn fits(&self, slot: Slot) -> bool {
        self.refused.iter().all(|tally| tally.total(slot).unwrap_or(0) == 0)
            && self.refusing.iter().all(|(_, tally)| tally.total(slot).unwrap_or(0) == 0)
            && self.has_company(slot, |tally| tally.total(slot), |tally| tally.sum())
    }

    fn has_company(
        &self,
        slot: Slot,
        total: impl Fn(&Tally) -> Option<i64>,
        sum: impl Fn(&Tally) -> i64,
    ) -> bool {
        let all_labels = self.wanted.iter().all(|tally| tally.domain(slot).is_some());
        if !all_labels {
            return false;
        }
        self.wanted.iter().all(|tally| total(tally).is_some_and(|total| total > 0))
            || (self.is_first && self.wanted.iter().all(|tally| sum(tally) == 0))
    }

    /// Why the node does not fit, as it is or (`node` being how it would be) might be.
    pub fn refusal(&self, slot: Slot, node: Option<&NodeState>, namespaces: &Namespaces) -> Option<Refusal> {
        let supposed = node.map(|node| self.share(node, namespaces));
        let wanted = supposed.as_ref().map(|share| share.wanted);
        let amount = |tally: &Tally| wanted.unwrap_or_else(|| tally.amount(slot));
        if !self.has_company(
            slot,
            |tally| tally.total_if(slot, amount(tally)),
            |tally| tally.sum_if(slot, amount(tally)),
        ) {
            return Some(Refusal::for_good(NO_AFFINITY));
        }
        for (at, tally) in self.refused.iter().enumerate() {
            let supposed = supposed.as_ref().and_then(|share| share.refused.get(at).copied());
            let amount = supposed.unwrap_or_else(|| tally.amount(slot));
            if tally.total_if(slot, amount).unwrap_or(0) > 0 {
                return Some(Refusal::new(ANTI_AFFINITY));
            }
        }
        for (key, tally) in &self.refusing {
            let supposed =
                supposed.as_ref().map(|share| share.refusing.get(key.as_str()).copied().unwrap_or(0));
            let amount = supposed.unwrap_or_else(|| tally.amount(slot));
            if tally.total_if(slot, amount).unwrap_or(0) > 0 {
                return Some(Refusal::new(OTHERS_ANTI_AFFINITY));
            }
        }
        // A pod that is only supposed to be there may refuse by a key that nobody refuses by yet.
        let new = supposed.iter().flat_map(|share| &share.refusing).find(|(key, _)| {
            !self.refusing.iter().any(|(known, _)| known == *key)
                && node.is_some_and(|node| node.label(key).is_some())
        });
        new.map(|_| Refusal::new(OTHERS_ANTI_AFFINITY))
    }

    pub fn scores(&self) -> bool {
        !self.preferred.is_empty()
    }

    /// Adds what speaks for each of the nodes.
    pub fn score(&self, fitting: &[Slot], weight: i64, scores: &mut [i64]) {
        let sum = |slot: &Slot| -> i64 {
            self.preferred.iter().map(|(_, tally)| tally.total(*slot).unwrap_or(0)).sum()
        };
        let sums: Vec<i64> = fitting.iter().map(sum).collect();
        let (least, most) =
            (sums.iter().copied().min().unwrap_or(0), sums.iter().copied().max().unwrap_or(0));
        if most == least {
            return;
        }
        for (score, sum) in scores.iter_mut().zip(sums) {
            *score += weight * (MAX_SCORE * (sum - least) / (most - least));
        }
    }

    #[cfg(test)]
    pub fn totals(&self) -> Vec<BTreeMap<String, (u32, i64)>> {
        let mut all: Vec<_> = self.wanted.iter().chain(&self.refused).map(Tally::by_value).collect();
        for keyed in [&self.refusing, &self.preferred] {
            let mut keyed: Vec<_> =
                keyed.iter().filter(|(_, tally)| tally.by_value().values().any(|(_, n)| *n != 0)).collect();
            keyed.sort_by_key(|(key, _)| key.clone());
            all.extend(keyed.into_iter().map(|(_, tally)| tally.by_value()));
        }
        all
    }
}

fn owned(amounts: BTreeMap<&str, i64>) -> BTreeMap<String, i64> {
    amounts.into_iter().map(|(key, amount)| (key.to_owned(), amount)).collect()
}

/// Notes a node's amounts; a key that was not counted by so far is counted by from now on.
fn by_key(
    tallies: &mut Vec<(String, Tally)>,
    mut amounts: BTreeMap<String, i64>,
    slot: Slot,
    cluster: &Cluster,
) {
    let Some(node) = cluster.nodes.get(slot) else { return };
    for (key, tally) in tallies.iter_mut() {
        let amount = amounts.remove(key).unwrap_or(0);
        tally.set(slot, node.label(key), true, amount);
    }
    for (key, amount) in amounts {
        let mut tally = empty(&key, cluster);
        tally.set(slot, node.label(&key), true, amount);
        tallies.push((key, tally));
    }
}

/// As [`by_key`], by how much the amounts change.
fn add_by_key(
    tallies: &mut Vec<(String, Tally)>,
    amounts: BTreeMap<String, i64>,
    slot: Slot,
    sign: i64,
    cluster: &Cluster,
) {
    for (key, amount) in amounts {
        let at = match tallies.iter().position(|(known, _)| *known == key) {
            Some(at) => at,
            None => {
                tallies.push((key.clone(), empty(&key, cluster)));
                tallies.len() - 1
            }
        };
        if let Some((_, tally)) = tallies.get_mut(at) {
            tally.add(slot, sign * amount);
        }
    }
}

/// Nothing on any node.
fn empty(key: &str, cluster: &Cluster) -> Tally {
    let mut tally = Tally::default();
    for (slot, node) in cluster.nodes.iter().enumerate() {
        tally.set(slot, node.label(key), true, 0);
    }
    tally
}
