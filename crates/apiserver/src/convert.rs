//! Between the versions of a kind: what is asked for and what is stored.
//!
//! Most kinds have one version, or versions that differ in name alone. What differs in shape has a table of its own
//! here.

use api::gvk::GroupVersionKind;
use serde_json::{Map, Value};

/// Turns `object` into an object of kind `to`. Objects of that kind already stay as they are.
pub fn convert(object: &mut Value, to: &GroupVersionKind) {
    let Some(from) = GroupVersionKind::of(object) else {
        return;
    };
    if from == *to {
        return;
    }
    if let Some(fields) = object.as_object_mut() {
        match (from.group.as_str(), from.kind.as_str(), to.group.as_str()) {
            ("events.k8s.io", "Event", "") => rename(fields, EVENT_FIELDS.iter().map(|(core, events)| (*events, *core))),
            ("", "Event", "events.k8s.io") => rename(fields, EVENT_FIELDS.iter().copied()),
            _ => {}
        }
        fields.insert("apiVersion".to_owned(), to.api_version().into());
        fields.insert("kind".to_owned(), to.kind.clone().into());
    }
}

/// The name of a selectable field in the storage version.
pub fn stored_field<'a>(asked: &GroupVersionKind, stored: &GroupVersionKind, field: &'a str) -> std::borrow::Cow<'a, str> {
    if asked.group == "events.k8s.io" && stored.group.is_empty() {
        if let Some(rest) = field.strip_prefix("regarding.") {
            return format!("involvedObject.{rest}").into();
        }
        if field == "reportingController" {
            return "reportingComponent".into();
        }
    }
    field.into()
}

/// The fields of `v1` Event and what `events.k8s.io/v1` calls them.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename<'a>(fields: &mut Map<String, Value>, names: impl Iterator<Item = (&'a str, &'a str)>) {
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_change_shape_and_back() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m", "reason": "r", "count": 3,
            "source": {"component": "kubelet"},
        });
        let mut object = core.clone();
        convert(&mut object, &GroupVersionKind::new("events.k8s.io", "v1", "Event"));
        assert_eq!(
            object,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
                "regarding": {"kind": "Pod", "name": "p"}, "note": "m", "reason": "r", "deprecatedCount": 3,
                "deprecatedSource": {"component": "kubelet"},
            })
        );
        convert(&mut object, &GroupVersionKind::new("", "v1", "Event"));
        assert_eq!(object, core);
    }
}
