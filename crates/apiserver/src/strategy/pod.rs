//! Pods: Pending with a QoS class when new; deleted with grace, so that their containers can stop.

use serde_json::{Value, json};

use super::{PLAIN, StatusMetadata, Strategy, status};
use crate::UserInfo;

pub static STRATEGY: Strategy = Strategy {
    create,
    update,
    grace,
    generation: true,
    returns_deleted: true,
    status: update,
    // Who owns a pod is not the kubelet's to say.
    status_metadata: StatusMetadata::Without(&["ownerReferences"]),
    ..PLAIN
};

fn create(pod: &mut Value, _: &UserInfo) {
    api::defaults::label_keys::merge(pod);
    super::apparmor::fill_in(pod);
    let class = api::pods::qos_class(pod);
    let gated = pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    let status = status(pod);
    status["phase"] = json!("Pending");
    status["qosClass"] = json!(class);
    if gated {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": crate::write::meta::now(),
        }]);
    }
}

fn update(pod: &mut Value, old: &Value) {
    if old["status"]["qosClass"].is_string() {
        status(pod)["qosClass"] = old["status"]["qosClass"].clone();
    }
}

/// The kubelet removes a pod when it has stopped. One that never ran, or has ended, has nothing to stop.
fn grace(pod: &Value, asked: Option<i64>) -> i64 {
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || ended {
        return 0;
    }
    let wanted = asked.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
    // What was never meant to be a period is the shortest one.
    let wanted = if wanted < 0 { 1 } else { wanted };
    match pod["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        // A second delete without a wish of its own does not hurry the first.
        Some(current) if pod["metadata"]["deletionTimestamp"].is_string() => match asked {
            Some(asked) => asked.max(0).min(current),
            None => current,
        },
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_periods() {
        #[track_caller]
        fn check(pod: Value, asked: Option<i64>, expected: i64) {
            assert_eq!(grace(&pod, asked), expected, "{pod}");
        }
        let running = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}});
        check(running.clone(), None, 7);
        check(running.clone(), Some(2), 2);
        check(running, Some(0), 0);
        check(json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": -5}}), None, 1);
        check(json!({"spec": {}}), None, 0);
        check(json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}), Some(9), 0);
        let deleted = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 20},
            "spec": {"nodeName": "n"},
        });
        check(deleted.clone(), None, 20);
        check(deleted.clone(), Some(5), 5);
        check(deleted, Some(50), 20);
    }
}
