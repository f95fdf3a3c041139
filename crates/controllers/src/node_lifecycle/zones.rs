//! How fast pods may be evicted from nodes that have failed. Where most nodes of a zone seem to have failed, it is
//! likelier that something between them and here has: then slowly or not at all. Free of IO.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::health;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Between two nodes of one zone, while most of it is well.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two nodes of a large zone that is in trouble. In a small one nothing is done then.
const SECONDARY_INTERVAL: Duration = Duration::from_secs(100);
const LARGE: usize = 50;
/// Percent of a zone's nodes from which on it is in trouble.
const UNHEALTHY: usize = 55;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disruption {
    Normal,
    Partial,
    Full,
}

/// Whether a node that has failed may be tainted so that its pods go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Permit {
    Now,
    Later(Duration),
    /// Not while its zone is as it is.
    NotNow,
    /// Every zone is down: more likely it is this side that is cut off. What was tainted gets well again.
    Never,
}

type Zone = (String, String);

fn zone(node: &Node) -> Zone {
    let label = |key: &str| {
        node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
    };
    (label(REGION), label(ZONE))
}

/// As metrics name it.
pub fn name(node: &Node) -> String {
    let (region, zone) = zone(node);
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
}

fn disruption(ready: usize, failed: usize) -> Disruption {
    if ready == 0 && failed > 0 {
        Disruption::Full
    } else if failed > 2 && failed * 100 >= (ready + failed) * UNHEALTHY {
        Disruption::Partial
    } else {
        Disruption::Normal
    }
}

/// Ready and failed nodes of each zone.
fn counts(all: &[Arc<Node>]) -> HashMap<Zone, (usize, usize)> {
    let mut counts: HashMap<Zone, (usize, usize)> = HashMap::new();
    for node in all {
        let (ready, failed) = counts.entry(zone(node)).or_default();
        if health::readiness(node) == Some("True") { *ready += 1 } else { *failed += 1 }
    }
    counts
}

/// Whether no node of any zone is ready.
pub fn all_down(all: &[Arc<Node>]) -> bool {
    counts(all).values().all(|(ready, failed)| disruption(*ready, *failed) == Disruption::Full)
}

/// When each zone last lost a node's pods.
#[derive(Default)]
pub struct Zones {
    granted: HashMap<Zone, Instant>,
}

impl Zones {
    pub fn permit(&mut self, node: &Node, all: &[Arc<Node>], now: Instant) -> Permit {
        if all_down(all) {
            return Permit::Never;
        }
        let counts = counts(all);
        let zone = zone(node);
        let (ready, failed) = counts.get(&zone).copied().unwrap_or_default();
        let interval = match disruption(ready, failed) {
            Disruption::Normal | Disruption::Full => INTERVAL,
            Disruption::Partial if ready + failed > LARGE => SECONDARY_INTERVAL,
            Disruption::Partial => return Permit::NotNow,
        };
        if let Some(last) = self.granted.get(&zone) {
            let left = interval.saturating_sub(now.duration_since(*last));
            if !left.is_zero() {
                return Permit::Later(left);
            }
        }
        self.granted.insert(zone, now);
        Permit::Now
    }
}

/// Whether a node has the taint by which pods go from it for its present state.
pub fn is_tainted(node: &Node) -> bool {
    let wanted =
        if health::readiness(node) == Some("Unknown") { health::UNREACHABLE } else { health::NOT_READY };
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    taints.into_iter().any(|taint| taint.key == wanted && taint.effect == health::NO_EXECUTE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes(zone: &str, ready: usize, failed: usize) -> Vec<Arc<Node>> {
        let node = |n: usize| {
            let status = if n < ready { "True" } else { "Unknown" };
            Arc::new(
                serde_json::from_value(
                    json!({"metadata": {"name": format!("{zone}{n}"), "labels": {ZONE: zone}},
                "status": {"conditions": [{"type": "Ready", "status": status}]}}),
                )
                .unwrap(),
            )
        };
        (0..ready + failed).map(node).collect()
    }

    #[test]
    fn evictions_slow_down_with_the_share_of_failed_nodes() {
        let check = |zones: &[(usize, usize)], expected: &[Permit]| {
            let all: Vec<_> = zones
                .iter()
                .enumerate()
                .flat_map(|(n, (ready, failed))| nodes(&format!("z{n}"), *ready, *failed))
                .collect();
            let failed = all.iter().find(|node| health::readiness(node) != Some("True")).unwrap();
            let (mut zones, now) = (Zones::default(), Instant::now());
            let found: Vec<_> = expected.iter().map(|_| zones.permit(failed, &all, now)).collect();
            assert_eq!(found, expected);
        };
        check(&[(9, 1)], &[Permit::Now, Permit::Later(INTERVAL)]);
        check(&[(1, 2)], &[Permit::Now]);
        check(&[(3, 7)], &[Permit::NotNow]);
        check(&[(20, 40)], &[Permit::Now, Permit::Later(SECONDARY_INTERVAL)]);
        check(&[(0, 3)], &[Permit::Never]);
        check(&[(0, 3), (2, 0)], &[Permit::Now, Permit::Later(INTERVAL)]);
        check(&[(0, 3), (0, 2)], &[Permit::Never]);
    }
}
