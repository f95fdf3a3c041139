//! Events, in both of their groups: those of `events.k8s.io` say more, and say it more strictly.

use super::names;
use super::read::{given, invalid_if, is_empty, required, same, text};
use crate::field::{FieldErrors, Path};
use crate::gvk::GroupVersionKind;
use serde_json::Value;

const ACTION_MAX: usize = 128;
const REASON_MAX: usize = 128;
const NOTE_MAX: usize = 1024;
const INSTANCE_MAX: usize = 128;

/// The same fields by the names of each group.
struct Names {
    object: &'static str,
    controller: &'static str,
    note: &'static str,
}

const CORE: Names = Names { object: "involvedObject", controller: "reportingComponent", note: "message" };
const EVENTS: Names = Names { object: "regarding", controller: "reportingController", note: "note" };

pub fn event(gvk: &GroupVersionKind, object: &Value, new: bool, errors: &mut FieldErrors) {
    let n = if gvk.group.is_empty() { CORE } else { EVENTS };
    place(object, &n, errors);
    // Whoever speaks the old version is not held to the rules of the new one.
    if gvk.group.is_empty() || !new {
        return;
    }
    if !given(&object["eventTime"]) {
        errors.required(&Path::new("eventTime"), "");
    }
    for (field, name) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        if !is_empty(&object[field]) && object[field] != 0 {
            errors.invalid(&Path::new(name), "", "needs to be unset");
        }
    }
    let kind = text(&object["type"]);
    if kind != "Normal" && kind != "Warning" {
        errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
    }
    let controller = &object[n.controller];
    let path = Path::new(n.controller);
    if text(controller).is_empty() {
        errors.required(&path, "");
    }
    invalid_if(names::qualified_name(text(controller)), controller, &path, errors);
    for (field, max) in [("reportingInstance", INSTANCE_MAX), ("action", ACTION_MAX), ("reason", REASON_MAX)]
    {
        let path = Path::new(field);
        required(&object[field], &path, errors);
        if text(&object[field]).len() > max {
            errors.invalid(&path, "", format!("can have at most {max} characters"));
        }
    }
    if text(&object[n.note]).len() > NOTE_MAX {
        errors.invalid(&Path::new(n.note), "", format!("can have at most {NOTE_MAX} characters"));
    }
}

/// An event is where its object is; those of objects without a namespace are in a namespace that every cluster has.
fn place(event: &Value, n: &Names, errors: &mut FieldErrors) {
    let (namespace, its) = (text(&event["metadata"]["namespace"]), text(&event[n.object]["namespace"]));
    let fits = match its {
        "" => matches!(namespace, "" | "default" | "kube-system"),
        its => namespace == its,
    };
    if !fits {
        let path = Path::new("involvedObject");
        errors.invalid(&path.child("namespace"), its, "does not match event.namespace");
    }
    if !is_empty(&event["metadata"]["namespace"])
        && let Some(problem) = names::dns1123_subdomain(namespace)
    {
        errors.invalid(&Path::new("namespace"), namespace, problem);
    }
    let series = &event["series"];
    if given(series) && text(&event["apiVersion"]).starts_with("events.") {
        let path = Path::new("series");
        if series["count"].as_i64().unwrap_or(0) < 2 {
            errors.invalid(&path.child("count"), "", "should be at least 2");
        }
        required(&series["lastObservedTime"], &path.child("lastObservedTime"), errors);
    }
}

/// Only the series of an event goes on.
pub fn update(gvk: &GroupVersionKind, new: &Value, old: &Value, errors: &mut FieldErrors) {
    if gvk.group.is_empty() {
        return;
    }
    for field in [
        "regarding",
        "reason",
        "reportingController",
        "reportingInstance",
        "action",
        "related",
        "note",
        "type",
        "eventTime",
    ] {
        if !same(&new[field], &old[field]) {
            errors.invalid(&Path::new(field), new[field].clone(), super::read::IMMUTABLE);
        }
    }
}
