//! How many pods of a budget may be evicted now. Free of IO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kit::intstr::{Round, resolve};
use crate::kit::meta::seconds_between;
use crate::kit::{meta, pods};

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
/// An eviction that has led to no deletion after this was given up.
const GIVEN_UP: f64 = 120.0;

/// Whether a budget speaks of a share of what controllers want, rather than of a number of pods.
pub fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    !matches!(spec.min_available, Some(IntOrString::Int(_)))
}

/// `scale` is how many pods their controllers want; without it, only absolute numbers mean anything.
pub fn status(
    budget: &PodDisruptionBudget,
    spec: &PodDisruptionBudgetSpec,
    selected: &[Arc<Pod>],
    scale: Result<i32, String>,
    now: &Time,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let old = budget.status.clone().unwrap_or_default();
    let count = i32::try_from(selected.len()).unwrap_or(i32::MAX);
    let (expected, desired, problem) = match (&spec.min_available, &spec.max_unavailable) {
        (Some(IntOrString::Int(least)), _) => (count, *least, None),
        (least, most) => match scale {
            // What was told before still holds, except that nothing may be evicted.
            Err(problem) => (old.expected_pods.unwrap_or(0), old.desired_healthy.unwrap_or(0), Some(problem)),
            Ok(scale) => {
                let desired = match (least, most) {
                    (Some(least), _) => resolve(least, scale, Round::Up).unwrap_or(scale),
                    (None, Some(most)) => (scale - resolve(most, scale, Round::Up).unwrap_or(0)).max(0),
                    (None, None) => scale,
                };
                (scale, desired, None)
            }
        },
    };

    let (disrupted, again) = still_disrupted(&old, selected, now);
    let is_healthy = |pod: &&Arc<Pod>| {
        pods::is_ready(pod) && !meta::is_terminating(&***pod) && !disrupted.contains_key(meta::name(&***pod))
    };
    let healthy = i32::try_from(selected.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if problem.is_some() || expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let (reason, message) = match problem {
        Some(problem) => ("SyncFailed", problem),
        None if allowed > 0 => ("SufficientPods", String::new()),
        None => ("InsufficientPods", String::new()),
    };
    let mut status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        expected_pods: Some(expected),
        desired_healthy: Some(desired),
        current_healthy: Some(healthy),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        conditions: old.conditions,
    };
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: if allowed > 0 { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: now.clone(),
        observed_generation: budget.metadata.generation,
    };
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|old| old.type_ == condition.type_) {
        None => conditions.push(condition),
        Some(old) => {
            let since =
                if old.status == condition.status { old.last_transition_time.clone() } else { now.clone() };
            *old = Condition { last_transition_time: since, ..condition };
        }
    }
    (status, again)
}

/// The evictions under way, and when the next of them is to be given up.
fn still_disrupted(
    old: &PodDisruptionBudgetStatus,
    selected: &[Arc<Pod>],
    now: &Time,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut still = BTreeMap::new();
    let mut again: Option<Duration> = None;
    for (name, since) in old.disrupted_pods.iter().flatten() {
        let pod = selected.iter().find(|pod| meta::name(&***pod) == name);
        let left = GIVEN_UP - seconds_between(since, now.0);
        if pod.is_none_or(|pod| meta::is_terminating(&**pod)) || left <= 0.0 {
            continue;
        }
        let left = Duration::from_secs_f64(left);
        again = Some(again.map_or(left, |again| again.min(left)));
        still.insert(name.clone(), since.clone());
    }
    (still, again)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn allowed_disruptions() {
        let pod = |name: &str, ready: bool| -> Arc<Pod> {
            Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]}})).unwrap())
        };
        let pods = [pod("a", true), pod("b", true), pod("c", true), pod("d", false)];
        let check = |spec: Value, disrupted: Value, scale: Result<i32, String>, expected: [i32; 4]| {
            let budget: PodDisruptionBudget =
                serde_json::from_value(json!({"spec": spec, "status": {"disruptedPods": disrupted}}))
                    .unwrap();
            let now = Time("2026-01-01T00:01:00Z".parse().unwrap());
            let (status, _) = status(&budget, budget.spec.as_ref().unwrap(), &pods, scale, &now);
            let found = [
                status.expected_pods,
                status.desired_healthy,
                status.current_healthy,
                status.disruptions_allowed,
            ]
            .map(|count| count.unwrap_or(0));
            assert_eq!(found, expected, "{spec}");
        };
        check(json!({"minAvailable": 2}), json!({}), Ok(4), [4, 2, 3, 1]);
        check(json!({"minAvailable": "50%"}), json!({}), Ok(4), [4, 2, 3, 1]);
        check(json!({"maxUnavailable": 1}), json!({}), Ok(4), [4, 3, 3, 0]);
        check(json!({"maxUnavailable": "50%"}), json!({}), Ok(4), [4, 2, 3, 1]);
        check(json!({"maxUnavailable": 1}), json!({}), Err("no scale".into()), [0, 0, 3, 0]);
        check(json!({"minAvailable": 1}), json!({"a": "2026-01-01T00:00:30Z"}), Ok(4), [4, 1, 2, 1]);
        check(json!({"minAvailable": 1}), json!({"a": "2025-12-31T23:00:00Z"}), Ok(4), [4, 1, 3, 2]);
    }
}
