//! What the heartbeats of a node say about it. Free of IO.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

/// A node that has not been heard of for this long is given up, unless the configuration says otherwise.
pub const GRACE: Duration = Duration::from_secs(50);
/// A node that was never heard of gets a little longer to start.
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// Conditions besides `Ready` that turn unknown with it, and the taints of those that hold.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// `True`, `False`, `Unknown`, or nothing if the node has never said.
pub fn readiness(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|ready| ready.status.as_str())
}

/// Whether an administrator says that the node is down for good: its pods and volumes may be taken from it.
pub fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    taints.into_iter().any(|taint| taint.key == "node.kubernetes.io/out-of-service")
}

/// The conditions of a node that has fallen silent, if they do not say so yet.
pub fn silent(node: &Node, now: &Time) -> Option<Vec<NodeCondition>> {
    let mut conditions =
        node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let before = conditions.clone();
    // A node's network is told by others; its silence says nothing about it.
    let told = ["Ready"].into_iter().chain(PRESSURES.into_iter().take(3).map(|(type_, _)| type_));
    for type_ in told {
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(now.clone());
            }
            Some(_) => {}
            None => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(now.clone()),
            }),
        }
    }
    (conditions != before).then_some(conditions)
}

/// The taints that a node should have by its conditions, if it has others. `evict` says whether one that is not ready
/// may get the taint by which its pods go.
pub fn taints(node: &Node, evict: bool, now: &Time) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let have = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match readiness(node) {
        Some("True") => {}
        Some(status) => {
            let key = if status == "Unknown" { UNREACHABLE } else { NOT_READY };
            wanted.push((key, NO_SCHEDULE));
            if evict {
                wanted.push((key, NO_EXECUTE));
            }
        }
        // It has only just registered: nothing runs there that would have to go.
        None => wanted.push((NOT_READY, NO_SCHEDULE)),
    }
    for (type_, taint) in PRESSURES {
        if condition(node, type_).is_some_and(|condition| condition.status == "True") {
            wanted.push((taint, NO_SCHEDULE));
        }
    }
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }

    let ours = |taint: &Taint| {
        let by_readiness = matches!(taint.key.as_str(), NOT_READY | UNREACHABLE)
            && matches!(taint.effect.as_str(), NO_SCHEDULE | NO_EXECUTE);
        let by_condition = taint.key == UNSCHEDULABLE || PRESSURES.iter().any(|(_, key)| *key == taint.key);
        by_readiness || (by_condition && taint.effect == NO_SCHEDULE)
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> =
        have.iter().filter(|taint| !ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in &wanted {
        if !taints.iter().any(|taint| taint.key == *key && taint.effect == *effect) {
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                time_added: Some(now.clone()),
                value: None,
            });
        }
    }
    (taints != have).then_some(taints)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kit::meta;

    fn node(conditions: Value, spec: Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}),
        )
        .unwrap()
    }

    #[test]
    fn taints_follow_conditions() {
        let check = |conditions: Value, spec: Value, expected: Option<&[&str]>| {
            let found = taints(&node(conditions.clone(), spec), true, &meta::now());
            let found = found.map(|taints| {
                taints
                    .iter()
                    .map(|taint| format!("{}:{}", taint.key.rsplit('/').next().unwrap(), taint.effect))
                    .collect::<Vec<_>>()
            });
            assert_eq!(
                found,
                expected.map(|taints| taints.iter().map(|taint| (*taint).to_owned()).collect()),
                "{conditions}"
            );
        };
        let ready = |status: &str| json!([{"type": "Ready", "status": status}]);
        check(ready("True"), json!({}), None);
        check(json!([]), json!({}), Some(&["not-ready:NoSchedule"]));
        check(ready("False"), json!({}), Some(&["not-ready:NoSchedule", "not-ready:NoExecute"]));
        check(
            ready("Unknown"),
            json!({"taints": [{"key": NOT_READY, "effect": "NoExecute"}, {"key": "mine", "effect": "NoExecute"}]}),
            Some(&["mine:NoExecute", "unreachable:NoSchedule", "unreachable:NoExecute"]),
        );
        check(ready("True"), json!({"taints": [{"key": NOT_READY, "effect": "NoSchedule"}]}), Some(&[]));
        check(ready("True"), json!({"unschedulable": true}), Some(&["unschedulable:NoSchedule"]));
        check(
            json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]),
            json!({}),
            Some(&["disk-pressure:NoSchedule"]),
        );
    }

    #[test]
    fn silence_is_told_once() {
        let mut node = node(
            json!([{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "False"}]),
            json!({}),
        );
        let conditions = silent(&node, &meta::now()).expect("news");
        let find = |type_: &str| {
            conditions
                .iter()
                .find(|condition| condition.type_ == type_)
                .map(|condition| condition.status.as_str())
        };
        assert_eq!(
            (find("Ready"), find("DiskPressure"), find("NetworkUnavailable")),
            (Some("Unknown"), Some("Unknown"), Some("False"))
        );
        node.status.as_mut().unwrap().conditions = Some(conditions);
        assert_eq!(silent(&node, &meta::now()), None);
    }
}
