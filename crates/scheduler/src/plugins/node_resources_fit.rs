//! Keeps pods off nodes without room for them, and prefers the emptier ones.

use super::{Check, Events, MAX_SCORE, Plugin, Refusal};
use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;

pub struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        Some(Box::new(Fit(pod)))
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.or(Events::NODE_RESOURCES).or(Events::POD_REMOVED)
    }
}

struct Fit<'a>(&'a PodInfo);

impl Check for Fit<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let mut reasons = Vec::new();
        let mut preemption_helps = true;
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.pod_limit {
            reasons.push("Too many pods".to_owned());
        }
        let wanted = &self.0.requests;
        let mut check = |name: &str, wanted: i64, used: i64, all: i64| {
            if wanted > 0 && wanted > all.saturating_sub(used) {
                reasons.push(format!("Insufficient {name}"));
                preemption_helps &= wanted <= all;
            }
        };
        let (used, all) = (&node.requested, &node.allocatable);
        check("cpu", wanted.milli_cpu, used.milli_cpu, all.milli_cpu);
        check("memory", wanted.memory, used.memory, all.memory);
        check("ephemeral-storage", wanted.ephemeral, used.ephemeral, all.ephemeral);
        for (name, wanted) in &wanted.others {
            let of =
                |others: &std::collections::BTreeMap<String, i64>| others.get(name).copied().unwrap_or(0);
            check(name, *wanted, of(&used.others), of(&all.others));
        }
        if reasons.is_empty() { Ok(()) } else { Err(Refusal { reasons, preemption_helps }) }
    }

    fn scores(&self) -> bool {
        true
    }

    /// `LeastAllocated` by CPU and memory: the share that stays free.
    fn score(&self, node: &NodeState) -> i64 {
        let free = |all: i64, used: i64, wanted: i64| {
            let left = all.saturating_sub(used).saturating_sub(wanted);
            if all <= 0 || left <= 0 {
                0
            } else {
                (i128::from(left) * i128::from(MAX_SCORE) / i128::from(all)) as i64
            }
        };
        let (all, used, wanted) = (&node.allocatable, &node.scored, &self.0.scored);
        let cpu = free(all.milli_cpu, used.milli_cpu, wanted.milli_cpu);
        let memory = free(all.memory, used.memory, wanted.memory);
        (cpu + memory) / 2
    }
}
