//! Prefers nodes on which resources would be used about equally: none runs out while another lies idle.

use super::MAX_SCORE;
use crate::cluster::NodeState;
use crate::config::ResourceWeight;
use crate::pod::PodInfo;
use crate::resources::{Resources, is_extended};

pub struct Balance {
    requests: Resources,
    names: Vec<String>,
}

impl Balance {
    /// Nothing for a pod that requests none of the resources: it balances nothing.
    pub fn new(pod: &PodInfo, resources: &[ResourceWeight]) -> Option<Self> {
        let wanted = |name: &str| pod.requests.amount(name) > 0;
        if !resources.iter().any(|resource| wanted(&resource.name)) {
            return None;
        }
        let names = resources.iter().map(|resource| &resource.name);
        let names = names.filter(|name| !is_extended(name) || wanted(name)).cloned().collect();
        Some(Self { requests: pod.requests.clone(), names })
    }

    pub fn score(&self, node: &NodeState) -> i64 {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for name in &self.names {
            let all = node.allocatable.amount(name);
            if all <= 0 {
                continue;
            }
            let used = node.requested.amount(name).saturating_add(self.requests.amount(name));
            let fraction = (used as f64 / all as f64).min(1.0);
            count += 1.0;
            sum += fraction;
            squares += fraction * fraction;
        }
        let deviation: f64 = if count < 2.0 {
            0.0
        } else {
            let mean: f64 = sum / count;
            (squares / count - mean * mean).max(0.0).sqrt()
        };
        // Rounding errors of the square root must not cost a point.
        ((1.0 - deviation) * MAX_SCORE as f64 + 1e-9) as i64
    }
}
