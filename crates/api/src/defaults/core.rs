//! Kinds of the core group without a file of their own, and small kinds of other groups.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::edit::{Object, each, ensure, get, has_items, missing, set, set_text, text};
use super::{pod, quantities};
use serde_json::Value;

const RBAC: &str = "rbac.authorization.k8s.io";

/// `stringData` is only for writing: it ends up in `data`, and wins there.
pub fn secret(object: &mut Object) {
    set_text(object, "type", "Opaque");
    let Some(Value::Object(texts)) = object.remove("stringData") else { return };
    let data = object.entry("data").or_insert_with(|| Value::Object(Object::new()));
    if let Value::Object(data) = data {
        for (key, value) in &texts {
            if let Value::String(text) = value {
                data.insert(key.clone(), Value::String(STANDARD.encode(text)));
            }
        }
    }
}

pub fn namespace(object: &mut Object) {
    // Only a namespace that is being made gets the finalizer: later it is the namespace controller's to remove.
    let new = get(object, "metadata").is_some_and(|m| missing(m, "uid") && missing(m, "deletionTimestamp"));
    if let Some(metadata) = get(object, "metadata") {
        let name = text(metadata, "name").to_owned();
        if !name.is_empty()
            && let Some(labels) = ensure(metadata, "labels")
        {
            labels.insert("kubernetes.io/metadata.name".into(), name.into());
        }
    }
    if new && let Some(spec) = ensure(object, "spec") {
        set(spec, "finalizers", vec!["kubernetes"]);
    }
    if let Some(status) = ensure(object, "status") {
        set_text(status, "phase", "Active");
    }
}

pub fn node(object: &mut Object) {
    if let Some(status) = get(object, "status") {
        if let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned()
            && !has_items(status, "allocatable")
        {
            status.insert("allocatable".into(), capacity);
        }
        quantities::list(status, "capacity");
        quantities::list(status, "allocatable");
    }
}

pub fn replication_controller(object: &mut Object) {
    let labels = object
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/labels"))
        .filter(|labels| labels.as_object().is_some_and(|l| !l.is_empty()))
        .cloned();
    if let Some(labels) = labels {
        if let Some(spec) = get(object, "spec")
            && !has_items(spec, "selector")
        {
            spec.insert("selector".into(), labels.clone());
        }
        if let Some(metadata) = get(object, "metadata")
            && !has_items(metadata, "labels")
        {
            metadata.insert("labels".into(), labels);
        }
    }
    let Some(spec) = get(object, "spec") else { return };
    set(spec, "replicas", 1);
    pod::template(spec);
}

/// For containers: `max` stands in for a missing default limit, that and then `min` for a missing default request.
pub fn limit_range(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    each(spec, "limits", |item| {
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            quantities::list(item, list);
        }
        if text(item, "type") == "Container" {
            fill(item, "default", "max");
            fill(item, "defaultRequest", "default");
            fill(item, "defaultRequest", "min");
        }
    });
}

/// Copies the members of one object that another lacks into it.
fn fill(item: &mut Object, to: &str, from: &str) {
    let Some(Value::Object(source)) =
        item.get(from).filter(|v| v.as_object().is_some_and(|m| !m.is_empty())).cloned()
    else {
        return;
    };
    if let Some(target) = ensure(item, to) {
        for (name, amount) in source {
            target.entry(name).or_insert(amount);
        }
    }
}

pub fn resource_quota(object: &mut Object) {
    if let Some(spec) = get(object, "spec") {
        quantities::list(spec, "hard");
    }
    if let Some(status) = get(object, "status") {
        quantities::list(status, "hard");
        quantities::list(status, "used");
    }
}

pub fn role_binding(object: &mut Object) {
    if let Some(role) = get(object, "roleRef") {
        set_text(role, "apiGroup", RBAC);
    }
    each(object, "subjects", |subject| {
        if matches!(text(subject, "kind"), "User" | "Group") {
            set_text(subject, "apiGroup", RBAC);
        }
    });
}

pub fn priority_class(object: &mut Object) {
    set(object, "preemptionPolicy", "PreemptLowerPriority");
}

pub fn token_request(object: &mut Object) {
    if let Some(spec) = ensure(object, "spec") {
        set(spec, "expirationSeconds", 3600);
    }
}
