//! Prefers nodes on which CPU and memory would be used about equally: neither runs out while the other lies idle.

use super::{Check, Events, MAX_SCORE, Plugin};
use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;

pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        // A pod that requests nothing balances nothing.
        let asks = pod.requests.milli_cpu > 0 || pod.requests.memory > 0;
        asks.then(|| Box::new(Balance(pod)) as Box<dyn Check>)
    }

    fn helped_by(&self) -> Events {
        Events::NONE
    }
}

struct Balance<'a>(&'a PodInfo);

impl Check for Balance<'_> {
    fn scores(&self) -> bool {
        true
    }

    fn score(&self, node: &NodeState) -> i64 {
        let share = |all: i64, used: i64, wanted: i64| {
            if all <= 0 { 1.0 } else { (used.saturating_add(wanted) as f64 / all as f64).min(1.0) }
        };
        let (all, used, wanted) = (&node.allocatable, &node.requested, &self.0.requests);
        let cpu = share(all.milli_cpu, used.milli_cpu, wanted.milli_cpu);
        let memory = share(all.memory, used.memory, wanted.memory);
        // The standard deviation of two values is half their distance.
        ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64
    }
}
