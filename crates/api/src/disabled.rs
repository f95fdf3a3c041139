//! Fields that a default server does not know yet: features that are off until somebody turns them on.
//!
//! Their values are taken out of what clients send, unless the stored object has some already (a server where the
//! feature was on may have written it).

use crate::gvk::GroupVersionKind;
use serde_json::Value;

/// The way to a field; `*` stands for every item of a list, or every member of an object.
type Way = &'static [&'static str];

const LEASE: &[Way] = &[&["spec", "strategy"], &["spec", "preferredHolder"]];
const DRIVER: &[Way] = &[&["spec", "preventPodSchedulingIfMissing"]];
const CLAIM: &[Way] = &[&["spec", "dataSourceRef", "namespace"]];
const POD: &[Way] = &[&["spec", "schedulingGroup"]];
const TEMPLATE: &[Way] = &[&["spec", "template", "spec", "schedulingGroup"]];
const SLICE: &[Way] = &[
    &["spec", "devices", "*", "nodeAllocatableResourceMappings"],
    &["spec", "devices", "*", "attributes", "*", "bools"],
    &["spec", "devices", "*", "attributes", "*", "ints"],
    &["spec", "devices", "*", "attributes", "*", "strings"],
    &["spec", "devices", "*", "attributes", "*", "versions"],
];

fn ways(gvk: &GroupVersionKind) -> &'static [Way] {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("coordination.k8s.io", "Lease") => LEASE,
        ("storage.k8s.io", "CSIDriver") => DRIVER,
        ("", "PersistentVolumeClaim") => CLAIM,
        ("", "Pod") => POD,
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => TEMPLATE,
        ("resource.k8s.io", "ResourceSlice") => SLICE,
        _ => &[],
    }
}

/// Takes such fields out of `new`; `old` is null for a new object.
pub fn take_out(gvk: &GroupVersionKind, new: &mut Value, old: &Value) {
    for way in ways(gvk) {
        if !has(old, way) {
            remove(new, way);
        }
    }
}

fn has(value: &Value, way: &[&str]) -> bool {
    match way {
        [] => !value.is_null(),
        ["*", rest @ ..] => match value {
            Value::Array(items) => items.iter().any(|item| has(item, rest)),
            Value::Object(members) => members.values().any(|member| has(member, rest)),
            _ => false,
        },
        [field, rest @ ..] => has(&value[*field], rest),
    }
}

fn remove(value: &mut Value, way: &[&str]) {
    match (way, value) {
        ([field], Value::Object(members)) => {
            members.remove(*field);
        }
        (["*", rest @ ..], Value::Array(items)) => items.iter_mut().for_each(|item| remove(item, rest)),
        (["*", rest @ ..], Value::Object(members)) => {
            members.values_mut().for_each(|member| remove(member, rest));
        }
        ([field, rest @ ..], Value::Object(members)) => {
            if let Some(member) = members.get_mut(*field) {
                remove(member, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(group: &str, kind: &str, mut new: Value, old: Value, want: Value) {
        take_out(&GroupVersionKind::new(group, "v1", kind), &mut new, &old);
        assert_eq!(new, want);
    }

    #[test]
    fn fields_of_features_that_are_off() {
        let lease = json!({"spec": {"strategy": "OldestEmulationVersion", "holderIdentity": "a"}});
        check(
            "coordination.k8s.io",
            "Lease",
            lease.clone(),
            Value::Null,
            json!({"spec": {"holderIdentity": "a"}}),
        );
        check("coordination.k8s.io", "Lease", lease.clone(), lease.clone(), lease);
        let slice =
            |attribute: Value| json!({"spec": {"devices": [{"name": "d", "attributes": {"a": attribute}}]}});
        check(
            "resource.k8s.io",
            "ResourceSlice",
            slice(json!({"ints": [1], "int": 1})),
            Value::Null,
            slice(json!({"int": 1})),
        );
        let pod = json!({"spec": {"schedulingGroup": 5}});
        check("", "Pod", pod, json!({"spec": null}), json!({"spec": {}}));
        check("", "Pod", json!([1]), json!("x"), json!([1]));
    }
}
