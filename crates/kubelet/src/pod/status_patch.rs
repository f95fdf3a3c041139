//! The smallest patch that tells the API of a new status.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// A strategic merge patch for the status subresource, or nothing when nothing has changed. It names the UID, so
/// that a new pod of the same name is never told of the old one's fate.
pub fn patch(uid: Option<&str>, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let fields = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let mut changes = Map::new();
    for (name, value) in &new {
        let before = old.get(name);
        if before == Some(value) {
            continue;
        }
        let change = match name.as_str() {
            "conditions" => changed_conditions(before, value),
            // Merged by address: without this the old addresses would stay.
            "podIPs" | "hostIPs" if before.is_some() => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(value.as_array().cloned().unwrap_or_default());
                Value::Array(list)
            }
            _ => value.clone(),
        };
        changes.insert(name.clone(), change);
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        changes.insert(name.clone(), Value::Null);
    }
    (!changes.is_empty()).then(|| match uid {
        Some(uid) => json!({"metadata": {"uid": uid}, "status": changes}),
        None => json!({"status": changes}),
    })
}

/// Those that differ, with explicit nulls for fields that have gone.
fn changed_conditions(old: Option<&Value>, new: &Value) -> Value {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let old = list(old);
    let new = list(Some(new));
    let gone = old.iter().filter(|old| new.iter().all(|new| new.get("type") != old.get("type")));
    let gone: Vec<Value> = gone.map(|old| json!({"$patch": "delete", "type": old.get("type")})).collect();
    let changed = new.into_iter().filter(|condition| !old.contains(condition));
    changed
        .map(|mut condition| {
            let before = old.iter().find(|old| old.get("type") == condition.get("type"));
            if let (Some(Value::Object(before)), Value::Object(fields)) = (before, &mut condition) {
                for name in before.keys() {
                    fields.entry(name.clone()).or_insert(Value::Null);
                }
            }
            condition
        })
        .chain(gone)
        .collect()
}

/// Whether somebody is waiting for the news: the phase, readiness or addresses have changed.
pub fn urgent(old: &PodStatus, new: &PodStatus) -> bool {
    let ready = |status: &PodStatus| {
        let mut conditions = status.conditions.iter().flatten();
        conditions
            .find(|condition| condition.type_ == "Ready")
            .is_some_and(|condition| condition.status == "True")
    };
    old.phase.as_deref().unwrap_or("Pending") != new.phase.as_deref().unwrap_or("Pending")
        || ready(old) != ready(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_differences_are_sent() {
        let old = status(json!({
            "phase": "Pending", "message": "m", "podIPs": [{"ip": "1.1.1.1"}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "R"}, {"type": "Mine", "status": "True"},
                {"type": "Passing", "status": "True"}],
        }));
        let new = status(json!({
            "phase": "Running", "podIPs": [{"ip": "2.2.2.2"}],
            "conditions": [{"type": "Mine", "status": "True"}, {"type": "Ready", "status": "True"}],
        }));
        let patch = patch(Some("u"), &old, &new).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running", "message": null,
                "podIPs": [{"$patch": "replace"}, {"ip": "2.2.2.2"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}, {"type": "Passing", "$patch": "delete"}],
            }})
        );
        assert!(urgent(&old, &new));
        assert_eq!(super::patch(Some("u"), &new, &new), None);
    }
}
