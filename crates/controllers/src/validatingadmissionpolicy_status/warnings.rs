//! What is wrong with a policy's expressions, for each kind that it is about.

use std::collections::BTreeMap;

use api::gvk::GroupVersionKind;
use expressions::Type;
use expressions::policy::faults;
use serde_json::{Value, json};

use super::types::Types;

/// As many kinds are looked at.
const MAX_KINDS: usize = 10;

/// The `expressionWarnings` of the status.
pub fn of(spec: &Value, types: &Types) -> Vec<Value> {
    let params = param_type(&spec["paramKind"], types);
    // By the place in the policy, as it is found.
    let mut warnings: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for kind in kinds(spec, types) {
        let Some(object) = types.of(&kind) else { continue };
        for fault in faults(spec, &object, &params) {
            let told = format!("{}, Kind={}", version(&kind), kind.kind);
            match warnings.iter_mut().find(|(field, _)| *field == fault.field) {
                Some((_, by_kind)) => _ = by_kind.insert(told, fault.why),
                None => warnings.push((fault.field, BTreeMap::from([(told, fault.why)]))),
            }
        }
    }
    let told = |(field, by_kind): (String, BTreeMap<String, String>)| {
        let lines: Vec<String> = by_kind.iter().map(|(kind, why)| format!("{kind}: {why}\n")).collect();
        json!({"fieldRef": field, "warning": lines.concat()})
    };
    warnings.into_iter().map(told).collect()
}

/// As Go prints it: the core group is empty, not left out.
fn version(kind: &GroupVersionKind) -> String {
    format!("{}/{}", kind.group, kind.version)
}

fn param_type(kind: &Value, types: &Types) -> Type {
    let text = |field: &str| kind[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    types.of(&GroupVersionKind::new(group, version, text("kind"))).unwrap_or(Type::Dyn)
}

/// The kinds that the rules name; what stands for anything is left out, and so are subresources.
fn kinds(spec: &Value, types: &Types) -> Vec<GroupVersionKind> {
    let mut kinds = Vec::new();
    for rule in items(&spec["matchConstraints"]["resourceRules"]) {
        for group in texts(&rule["apiGroups"]) {
            for version in texts(&rule["apiVersions"]) {
                for resource in texts(&rule["resources"]) {
                    if [group, version, resource].contains(&"*") || resource.contains('/') {
                        continue;
                    }
                    if let Some(kind) = types.kind(group, version, resource)
                        && !kinds.contains(&kind)
                    {
                        kinds.push(kind);
                    }
                    if kinds.len() == MAX_KINDS {
                        return kinds;
                    }
                }
            }
        }
    }
    kinds
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    items(list).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[track_caller]
    fn check(spec: Value, expected: &[(&str, &str)]) {
        let definition = serde_json::from_value(json!({"metadata": {}, "spec": {"group": "x.io", "scope": "Cluster",
            "names": {"kind": "Widget", "plural": "widgets"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                    "properties": {"size": {"type": "integer"}}}}}}}]}}))
        .unwrap();
        let types = Types::new(vec![Arc::new(definition)]);
        let expected: Vec<Value> =
            expected.iter().map(|(field, warning)| json!({"fieldRef": field, "warning": warning})).collect();
        assert_eq!(of(&spec, &types), expected);
    }

    fn about(group: &str, resources: &[&str], expressions: &[&str]) -> Value {
        let validations: Vec<Value> =
            expressions.iter().map(|source| json!({"expression": source})).collect();
        json!({"matchConstraints": {"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"], "resources": resources}]},
            "validations": validations})
    }

    #[test]
    fn mistakes_are_told_for_each_kind() {
        check(
            about("apps", &["deployments"], &["object.spec.replicas > 1 && object.metadata.labels.a == 'b'"]),
            &[],
        );
        check(
            about("apps", &["deployments", "daemonsets"], &["true", "object.spec.replicas > 1"]),
            &[(
                "spec.validations[1].expression",
                "apps/v1, Kind=DaemonSet: ERROR: <input>:1:12: undefined field 'replicas'\n | object.spec.replicas > 1\n | ...........^\n",
            )],
        );
        check(
            about("apps", &["deployments"], &["object.spec.replicas > '1'"]),
            &[(
                "spec.validations[0].expression",
                "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n",
            )],
        );
    }

    #[test]
    fn kinds_of_users_and_parameters_are_known() {
        check(about("x.io", &["widgets"], &["object.spec.size > 1 && object.metadata.name != ''"]), &[]);
        let mut spec =
            about("x.io", &["widgets"], &["object.spec.colour == 'red'", "params.spec.size == 'x'"]);
        spec["paramKind"] = json!({"apiVersion": "x.io/v1", "kind": "Widget"});
        check(
            spec,
            &[
                (
                    "spec.validations[0].expression",
                    "x.io/v1, Kind=Widget: ERROR: <input>:1:12: undefined field 'colour'\n | object.spec.colour == 'red'\n | ...........^\n",
                ),
                (
                    "spec.validations[1].expression",
                    "x.io/v1, Kind=Widget: ERROR: <input>:1:18: found no matching overload for '_==_' applied to '(int, string)'\n | params.spec.size == 'x'\n | .................^\n",
                ),
            ],
        );
        check(about("*", &["*", "pods/log"], &["object.nothing == 1"]), &[]);
        check(about("nobody.io", &["things"], &["object.nothing == 1"]), &[]);
    }
}
