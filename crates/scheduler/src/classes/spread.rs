//! How many pods of the same kind are in each domain of a pod's topology spread constraints.

use super::local::Judges;
use super::tally::Tally;
use crate::cluster::{NodeState, Slot};
use crate::labels::Labels;
use crate::plugins::pod_topology_spread::{Constraint, Constraints, HOSTNAME, NO_LABEL, UNEVEN};
use crate::plugins::{MAX_SCORE, Refusal};
use crate::pod::PodInfo;

pub struct Spread {
    counts: Vec<Count>,
    every_label_needed: bool,
    namespace: String,
}

struct Count {
    constraint: Constraint,
    /// Whether the pod counts itself.
    itself: i64,
    tally: Tally,
}

impl Count {
    /// The least crowded domain, if a domain that lacks counts as empty.
    fn floor(&self, (least, domains): (i64, usize)) -> i64 {
        if i64::try_from(domains).unwrap_or(i64::MAX) < self.constraint.min_domains { 0 } else { least }
    }

    fn is_uneven(&self, total: i64, floor: i64) -> bool {
        total + self.itself - floor > self.constraint.max_skew
    }
}

impl Spread {
    pub fn new(constraints: Constraints, namespace: &str, labels: &Labels) -> Self {
        let every_label_needed = constraints.every_label_needed;
        let count = |constraint: Constraint| Count {
            itself: i64::from(constraint.counts(Some(labels))),
            constraint,
            tally: Tally::default(),
        };
        Self {
            counts: constraints.all.into_iter().map(count).collect(),
            every_label_needed,
            namespace: namespace.to_owned(),
        }
    }

    pub fn look_at(&mut self, slot: Slot, node: &NodeState, judges: &Judges) {
        let has_all = |required: bool, counts: &[Count]| {
            let mut keys = counts.iter().filter(|count| count.constraint.required == required);
            keys.all(|count| node.label(&count.constraint.topology_key).is_some())
        };
        let complete =
            [has_all(false, &self.counts) || !self.every_label_needed, has_all(true, &self.counts)];
        let amounts = self.amounts(node);
        for (count, amount) in self.counts.iter_mut().zip(amounts) {
            let constraint = &count.constraint;
            let member = complete[usize::from(constraint.required)]
                && (!constraint.honors_affinity || judges.picks(node))
                && (!constraint.honors_taints || judges.tolerates(node));
            count.tally.set(slot, node.label(&constraint.topology_key), member, amount);
        }
    }

    /// A pod has come to the node or (`sign` being -1) has gone.
    pub fn pod_moved(&mut self, slot: Slot, pod: &PodInfo, sign: i64) {
        if pod.namespace() != self.namespace || pod.is_terminating() {
            return;
        }
        let labels = pod.pod.metadata.labels.as_ref();
        for count in &mut self.counts {
            if count.constraint.counts(labels) {
                count.tally.add(slot, sign);
            }
        }
    }

    fn amounts(&self, node: &NodeState) -> Vec<i64> {
        let mut amounts = vec![0; self.counts.len()];
        for pod in node.pods.values() {
            if pod.namespace() != self.namespace || pod.is_terminating() {
                continue;
            }
            let labels = pod.pod.metadata.labels.as_ref();
            for (count, amount) in self.counts.iter().zip(&mut amounts) {
                *amount += i64::from(count.constraint.counts(labels));
            }
        }
        amounts
    }

    /// The least crowded domain for each constraint that must hold.
    pub fn floors(&self) -> Vec<i64> {
        let floor = |count: &Count| {
            if count.constraint.required { count.floor(count.tally.least()) } else { 0 }
        };
        self.counts.iter().map(floor).collect()
    }

    pub fn fits(&self, slot: Slot, floors: &[i64]) -> bool {
        self.counts.iter().zip(floors).all(|(count, floor)| {
            !count.constraint.required
                || count.tally.total(slot).is_some_and(|total| !count.is_uneven(total, *floor))
        })
    }

    /// Why the node does not fit, as it is or (`node` being how it would be) might be.
    pub fn refusal(&self, slot: Slot, node: Option<&NodeState>) -> Option<Refusal> {
        let amounts = node.map(|node| self.amounts(node));
        for (at, count) in self.counts.iter().enumerate() {
            if !count.constraint.required {
                continue;
            }
            let supposed = amounts.as_ref().and_then(|amounts| amounts.get(at).copied());
            let amount = supposed.unwrap_or_else(|| count.tally.amount(slot));
            let Some(total) = count.tally.total_if(slot, amount) else {
                return Some(Refusal::for_good(NO_LABEL));
            };
            if count.is_uneven(total, count.floor(count.tally.least_if(slot, amount))) {
                return Some(Refusal::new(UNEVEN));
            }
        }
        None
    }

    pub fn scores(&self) -> bool {
        self.counts.iter().any(|count| !count.constraint.required)
    }

    /// Adds what speaks for each of the nodes.
    pub fn score(&self, fitting: &[Slot], weight: i64, scores: &mut [i64]) {
        let soft = || self.counts.iter().filter(|count| !count.constraint.required);
        let known =
            |slot: Slot| !self.every_label_needed || soft().all(|count| count.tally.domain(slot).is_some());
        let known: Vec<bool> = fitting.iter().map(|slot| known(*slot)).collect();
        let mut crowds = vec![0.0_f64; fitting.len()];
        for count in soft() {
            let alone = count.constraint.topology_key == HOSTNAME;
            // Labels with many values weigh more: an uneven spread over them is harder to make up for.
            let domains = if alone {
                known.iter().filter(|known| **known).count()
            } else {
                let mut seen = vec![false; count.tally.domains().len()];
                let known = fitting.iter().zip(&known).filter(|(_, known)| **known);
                let domains = known.filter_map(|(slot, _)| count.tally.domain(*slot));
                domains
                    .filter(|id| seen.get_mut(*id).is_some_and(|seen| !std::mem::replace(seen, true)))
                    .count()
            };
            let factor = (domains as f64 + 2.0).ln();
            for (slot, crowd) in fitting.iter().zip(&mut crowds) {
                let here = if alone {
                    count.tally.domain(*slot).map(|_| count.tally.amount(*slot))
                } else {
                    count.tally.total(*slot)
                };
                if let Some(here) = here {
                    *crowd += here as f64 * factor + (count.constraint.max_skew - 1) as f64;
                }
            }
        }
        let crowds: Vec<i64> = crowds.into_iter().map(|crowd| crowd.round() as i64).collect();
        let judged = || crowds.iter().zip(&known).filter(|(_, known)| **known).map(|(crowd, _)| *crowd);
        let (least, most) = (judged().min().unwrap_or(0), judged().max().unwrap_or(0));
        for ((score, crowd), known) in scores.iter_mut().zip(&crowds).zip(&known) {
            let share = match (known, most) {
                // A node without the label is the last choice.
                (false, _) => 0,
                (true, 0) => MAX_SCORE,
                (true, most) => MAX_SCORE * (most + least - crowd) / most,
            };
            *score += weight * share;
        }
    }

    #[cfg(test)]
    pub fn totals(&self) -> Vec<std::collections::BTreeMap<String, (u32, i64)>> {
        self.counts.iter().map(|count| count.tally.by_value()).collect()
    }
}
