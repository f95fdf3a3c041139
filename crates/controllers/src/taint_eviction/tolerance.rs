//! How long a pod stands the taints of its node. Free of IO.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Taint, Toleration};
use k8s_openapi::jiff::Timestamp;

use crate::node_lifecycle::health::NO_EXECUTE;

#[derive(Debug, PartialEq)]
pub enum Tolerance {
    ForEver,
    For(Duration),
    NoLonger,
}

/// Since when a pod stands what it stands.
#[derive(Clone, Copy, Debug)]
pub struct Stay {
    /// Since when it is known to stand taints: what counts for a taint without a time.
    pub known: Timestamp,
    /// Since when it is on the node: of an older taint it has its time from then on.
    pub began: Timestamp,
}

pub fn tolerance(taints: &[Taint], tolerations: &[Toleration], stay: Stay, now: Timestamp) -> Tolerance {
    let mut shortest: Option<Duration> = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let fitting = tolerations
            .iter()
            .filter(|toleration| scheduler::fit::tolerates(std::slice::from_ref(*toleration), taint));
        let fitting: Vec<_> = fitting.collect();
        if fitting.is_empty() {
            return Tolerance::NoLonger;
        }
        let seconds = fitting.iter().filter_map(|toleration| toleration.toleration_seconds).min();
        let Some(seconds) = seconds else { continue };
        let since = taint.time_added.as_ref().map_or(stay.known, |added| added.0).max(stay.began);
        let passed = now.duration_since(since).as_secs_f64();
        let left = Duration::from_secs_f64((seconds as f64 - passed).max(0.0));
        shortest = Some(shortest.map_or(left, |shortest| shortest.min(left)));
    }
    match shortest {
        None => Tolerance::ForEver,
        Some(left) if left.is_zero() => Tolerance::NoLonger,
        Some(left) => Tolerance::For(left),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn tolerance_ends_with_its_seconds() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let stay = Stay {
            known: "2026-01-01T00:00:10Z".parse().unwrap(),
            began: "2025-12-31T00:00:00Z".parse().unwrap(),
        };
        let taint = |effect: &str| json!({"key": "k", "effect": effect, "timeAdded": "2026-01-01T00:00:00Z"});
        let check = |taints: Value, tolerations: Value, expected: Tolerance| {
            let (taints, tolerations): (Vec<Taint>, Vec<Toleration>) =
                (serde_json::from_value(taints).unwrap(), serde_json::from_value(tolerations).unwrap());
            assert_eq!(tolerance(&taints, &tolerations, stay, now), expected, "{tolerations:?}");
        };
        let for_seconds =
            |seconds: i64| json!({"key": "k", "operator": "Exists", "tolerationSeconds": seconds});
        check(json!([taint("NoSchedule")]), json!([]), Tolerance::ForEver);
        check(json!([taint("NoExecute")]), json!([]), Tolerance::NoLonger);
        check(json!([taint("NoExecute")]), json!([{"operator": "Exists"}]), Tolerance::ForEver);
        check(
            json!([taint("NoExecute")]),
            json!([for_seconds(100)]),
            Tolerance::For(Duration::from_secs(40)),
        );
        check(json!([taint("NoExecute")]), json!([for_seconds(60)]), Tolerance::NoLonger);
        let timeless = json!([{"key": "k", "effect": "NoExecute"}]);
        check(timeless.clone(), json!([for_seconds(60)]), Tolerance::For(Duration::from_secs(10)));
        check(timeless, json!([for_seconds(50)]), Tolerance::NoLonger);
        check(
            json!([taint("NoExecute")]),
            json!([for_seconds(300), for_seconds(90)]),
            Tolerance::For(Duration::from_secs(30)),
        );
    }
}
