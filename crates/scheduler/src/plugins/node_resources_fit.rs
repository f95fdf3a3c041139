//! Keeps pods off nodes without room for them, and prefers emptier, fuller or otherwise filled nodes, as the
//! profile's strategy has it.

use super::{Local, MAX_SCORE, Refusal};
use crate::cluster::NodeState;
use crate::config::{FitArgs, ResourceWeight, Strategy};
use crate::devices::Backed;
use crate::pod::PodInfo;
use crate::resources::{CPU, MEMORY, Resources, is_extended};

pub struct Fit {
    requests: Resources,
    scored: Resources,
    ignored: Vec<String>,
    /// Those that devices are claimed for where there are no plugins for them.
    backed: Vec<String>,
    strategy: Strategy,
    /// Those of the strategy's resources that matter to this pod.
    weights: Vec<ResourceWeight>,
}

impl Fit {
    pub fn new(pod: &PodInfo, args: &FitArgs, backed: &Backed) -> Self {
        let ignored = pod.requests.others.keys().filter(|name| args.ignores(name)).cloned().collect();
        // An extended resource that the pod does not ask for says nothing about where it should go.
        let matters = |resource: &&ResourceWeight| {
            !is_extended(&resource.name) || pod.requests.amount(&resource.name) > 0
        };
        let weights = args.resources.iter().filter(matters).cloned().collect();
        Self {
            requests: pod.requests.clone(),
            scored: pod.scored.clone(),
            ignored,
            backed: backed.names().cloned().collect(),
            strategy: args.strategy.clone(),
            weights,
        }
    }

    pub fn score(&self, node: &NodeState) -> i64 {
        let (mut sum, mut weights) = (0_i64, 0_i64);
        for resource in &self.weights {
            let capacity = node.allocatable.amount(&resource.name);
            if capacity <= 0 {
                continue;
            }
            let told = matches!(resource.name.as_str(), CPU | MEMORY);
            let (used, wanted) =
                if told { (&node.scored, &self.scored) } else { (&node.requested, &self.requests) };
            let after = used.amount(&resource.name).saturating_add(wanted.amount(&resource.name));
            let score = match &self.strategy {
                Strategy::LeastAllocated => share(capacity.saturating_sub(after).max(0), capacity),
                Strategy::MostAllocated => share(after.min(capacity), capacity),
                Strategy::RequestedToCapacityRatio(shape) => {
                    let score = shape.at(share(after.min(capacity), capacity));
                    // A resource that scores nothing does not count at all.
                    if score == 0 {
                        continue;
                    }
                    score
                }
            };
            sum += score * resource.weight;
            weights += resource.weight;
        }
        match (&self.strategy, weights) {
            (_, 0) => 0,
            (Strategy::RequestedToCapacityRatio(_), _) => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}

fn share(part: i64, whole: i64) -> i64 {
    (i128::from(part) * i128::from(MAX_SCORE) / i128::from(whole)) as i64
}

impl Local for Fit {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let mut refusal = Refusal { reasons: Vec::new(), preemption_helps: true };
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.pod_limit {
            refusal.reasons.push("Too many pods".into());
        }
        let mut check = |name: &str, wanted: i64, used: i64, all: i64| {
            if wanted > 0 && wanted > all.saturating_sub(used) {
                refusal.reasons.push(match name {
                    "cpu" => "Insufficient cpu".into(),
                    "memory" => "Insufficient memory".into(),
                    _ => format!("Insufficient {name}").into(),
                });
                refusal.preemption_helps &= wanted <= all;
            }
        };
        let (wanted, used, all) = (&self.requests, &node.requested, &node.allocatable);
        check("cpu", wanted.milli_cpu, used.milli_cpu, all.milli_cpu);
        check("memory", wanted.memory, used.memory, all.memory);
        check("ephemeral-storage", wanted.ephemeral, used.ephemeral, all.ephemeral);
        for (name, wanted) in &wanted.others {
            let claimed = self.backed.contains(name) && all.amount(name) == 0;
            if !self.ignored.contains(name) && !claimed {
                check(name, *wanted, used.amount(name), all.amount(name));
            }
        }
        if refusal.reasons.is_empty() { Ok(()) } else { Err(refusal) }
    }
}
