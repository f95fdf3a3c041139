//! What is refused, in which words: a file for each family of kinds.

mod admission;
mod autoscaling;
mod certificates;
mod cluster;
mod config;
mod dra;
mod events;
mod fields;
mod flow_control;
mod jobs;
mod metadata;
mod networking;
mod pods;
mod rbac;
mod scheduling;
mod services;
mod sources;
mod storage;
mod workloads;

pub use super::*;
use crate::gvk::GroupVersion;
use proptest::prelude::*;
pub use serde_json::json;

pub fn gvk(api_version: &str, kind: &str) -> GroupVersionKind {
    api_version.parse::<GroupVersion>().unwrap().with_kind(kind)
}

/// The object defaulted, with a name and, where it takes one, a namespace.
fn prepared(gvk: &GroupVersionKind, mut object: Value) -> Value {
    let metadata = object.as_object_mut().unwrap().entry("metadata").or_insert(json!({}));
    if metadata.get("name").is_none() && metadata.get("generateName").is_none() {
        metadata["name"] = json!("x");
    }
    if crate::registry::Registry::builtin().kind(gvk).unwrap().namespaced
        && metadata.get("namespace").is_none()
    {
        metadata["namespace"] = json!("default");
    }
    crate::defaults::apply(gvk, &mut object);
    object
}

#[track_caller]
pub fn check(api_version: &str, kind: &str, object: Value, want: &[&str]) {
    let gvk = gvk(api_version, kind);
    let object = prepared(&gvk, object);
    let got: Vec<String> = create(&gvk, &object).iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "{kind}");
}

#[track_caller]
pub fn check_update(api_version: &str, kind: &str, old: Value, new: Value, want: &[&str]) {
    let gvk = gvk(api_version, kind);
    let (old, new) = (prepared(&gvk, old), prepared(&gvk, new));
    let got: Vec<String> = update(&gvk, &new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "{kind}");
}

#[track_caller]
pub fn check_status(api_version: &str, kind: &str, old: Value, new: Value, want: &[&str]) {
    let gvk = gvk(api_version, kind);
    let got: Vec<String> =
        update_subresource(&gvk, "status", &new, &old).iter().map(ToString::to_string).collect();
    let got: Vec<&str> =
        got.iter().map(String::as_str).filter(|error| !error.starts_with("metadata")).collect();
    assert_eq!(got, want, "{kind}");
}

proptest! {
    #[test]
    fn nothing_panics((gvk, old, new) in fuzz::any_pair()) {
        let _ = create(&gvk, &new).to_string();
        let _ = update(&gvk, &new, &old).to_string();
        for subresource in ["status", "ephemeralcontainers", "resize"] {
            let _ = update_subresource(&gvk, subresource, &new, &old).to_string();
        }
    }

    #[test]
    fn what_is_valid_may_be_written_again((gvk, object) in fuzz::any_object()) {
        // An update that changes nothing meets no rule about changes: only what is wrong with the object itself.
        let of_object: Vec<String> = create(&gvk, &object).iter().map(ToString::to_string).collect();
        // What a definition has stored is only looked at once it exists.
        for error in update(&gvk, &object, &object).iter().filter(|error| !error.field.starts_with("status.")) {
            prop_assert!(of_object.contains(&error.to_string()), "{error}");
        }
    }
}

#[track_caller]
pub fn check_subresource(subresource: &str, kind: &str, old: Value, new: Value, want: &[&str]) {
    let gvk = gvk("v1", kind);
    let (old, new) = (prepared(&gvk, old), prepared(&gvk, new));
    let got: Vec<String> =
        update_subresource(&gvk, subresource, &new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "{kind}/{subresource}");
}
