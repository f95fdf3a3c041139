//! Between the versions of a kind: what is asked for and what is stored.
//!
//! Most kinds have one version, or versions that differ in name alone. What differs in shape has a table of its own
//! here.

mod autoscaler;
mod event;
mod metrics;

use std::borrow::Cow;

use api::gvk::GroupVersionKind;
use serde_json::Value;

/// Turns `object` into an object of kind `to`. Objects of that kind already stay as they are.
pub fn convert(object: &mut Value, to: &GroupVersionKind) {
    let Some(from) = GroupVersionKind::of(object) else {
        return;
    };
    if from == *to {
        return;
    }
    if let Some(fields) = object.as_object_mut() {
        match (from.group.as_str(), from.kind.as_str(), to.group.as_str(), to.version.as_str()) {
            ("events.k8s.io", "Event", "", _) => event::to_core(fields),
            ("", "Event", "events.k8s.io", _) => event::from_core(fields),
            ("autoscaling", "HorizontalPodAutoscaler", _, "v1") => autoscaler::to_v1(fields),
            ("autoscaling", "HorizontalPodAutoscaler", _, "v2") => autoscaler::from_v1(fields),
            _ => {}
        }
        fields.insert("apiVersion".to_owned(), to.api_version().into());
        fields.insert("kind".to_owned(), to.kind.clone().into());
    }
}

/// The name of a selectable field in the storage version.
pub fn stored_field<'a>(asked: &GroupVersionKind, stored: &GroupVersionKind, field: &'a str) -> Cow<'a, str> {
    if asked.group == "events.k8s.io" && stored.group.is_empty() {
        if let Some(rest) = field.strip_prefix("regarding.") {
            return format!("involvedObject.{rest}").into();
        }
        if field == "reportingController" {
            return "reportingComponent".into();
        }
    }
    // What it was called in the beginning.
    if field == "spec.host" && asked.group.is_empty() && asked.kind == "Pod" {
        return "spec.nodeName".into();
    }
    field.into()
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
