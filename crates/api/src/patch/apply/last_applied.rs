//! The annotation in which `kubectl apply` without `--server-side` keeps what it applied last.
//!
//! Who goes over to server-side apply with kubectl must not be told that he conflicts with his own client-side apply,
//! and who goes back must find the annotation up to date.

use super::compare::compare;
use super::set::Set;
use super::typed::{Paths, paths};
use crate::schema::Schema;
use serde_json::Value;

/// The manager by which kubectl applies.
pub const KUBECTL: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()
}

/// The fields that client-side apply set last and that still have the value it gave them.
pub fn owned(live: &Value, schema: &Schema) -> Set {
    let last = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(last) = last.filter(Value::is_object) else { return Set::new() };
    let mut set = paths(&last, Some(schema), Paths::Applied).unwrap_or_default();
    let changes = compare(&last, live, Some(schema));
    set.subtract(&changes.modified);
    set.subtract(&changes.removed);
    set
}

/// Brings the annotation up to date, where the live object has one.
pub fn refresh(object: &mut Value, live: &Value, applied: &Value) {
    if annotation(live).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    if let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(ANNOTATION.into(), format!("{applied}\n").into());
    }
}
