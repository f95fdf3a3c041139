//! `metadata`: names, labels, annotations, owners, finalizers, and what of it may change.

use super::names;
use super::read::{IMMUTABLE, given, invalid_if, is_true, items, members, text};
use crate::field::{FieldErrors, Path, quote};
use crate::gvk::GroupVersionKind;
use crate::registry::Registry;
use serde_json::Value;

/// All annotations together, keys and values.
const MAX_ANNOTATIONS: usize = 256 << 10;
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// The check that names of a kind must pass.
fn name_check(gvk: &GroupVersionKind) -> fn(&str) -> Option<String> {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        // A Service's could not begin with a digit until 1.36.
        ("", "Namespace" | "Service") => names::dns1123_label,
        // Its name begins the host names of its pods.
        ("apps", "StatefulSet") => names::dns1123_label,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        // `v1.` is the APIService of the core group, and bundles are named after their signer, with colons.
        ("apiregistration.k8s.io", "APIService")
        | ("certificates.k8s.io", "ClusterTrustBundle" | "CertificateSigningRequest")
        | ("" | "events.k8s.io", "Event") => names::path_segment,
        ("networking.k8s.io", "IPAddress") => names::ip_address,
        _ => names::dns1123_subdomain,
    }
}

pub fn create(gvk: &GroupVersionKind, metadata: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    let check = name_check(gvk);
    let (name, prefix) = (&metadata["name"], &metadata["generateName"]);
    if !text(prefix).is_empty() {
        // What follows the prefix makes the dash at its end a good one.
        let sample = format!("{}a", text(prefix));
        invalid_if(check(&sample), prefix, &path.child("generateName"), errors);
    }
    if text(name).is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        invalid_if(check(text(name)), name, &path.child("name"), errors);
    }
    common(gvk, metadata, errors);
}

/// What holds for new and changed objects alike.
fn common(gvk: &GroupVersionKind, metadata: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    let namespace = &metadata["namespace"];
    let namespace_path = path.child("namespace");
    match Registry::builtin().kind(gvk).map(|r| r.namespaced) {
        Some(true) if text(namespace).is_empty() => errors.required(&namespace_path, ""),
        Some(false) if !text(namespace).is_empty() => {
            errors.forbidden(&namespace_path, "not allowed on this type")
        }
        _ if !text(namespace).is_empty() => {
            invalid_if(names::dns1123_label(text(namespace)), namespace, &namespace_path, errors);
        }
        _ => {}
    }
    labels(&metadata["labels"], &path.child("labels"), errors);
    annotations(&metadata["annotations"], &path.child("annotations"), errors);
    owners(&metadata["ownerReferences"], &path.child("ownerReferences"), errors);
    finalizers(gvk, &metadata["finalizers"], &path.child("finalizers"), errors);
}

pub fn labels(labels: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (key, value) in members(labels) {
        if let Some(problem) = names::qualified_name(key) {
            errors.invalid(path, key.as_str(), problem);
        }
        invalid_if(names::label_value(text(value)), value, path, errors);
    }
}

pub fn annotations(annotations: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut size = 0;
    for (key, value) in members(annotations) {
        // Upper case is fine in the prefix here.
        if let Some(problem) = names::qualified_name(&key.to_lowercase()) {
            errors.invalid(path, key.as_str(), problem);
        }
        size += key.len() + text(value).len();
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(path, MAX_ANNOTATIONS);
    }
}

fn owners(owners: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut controller: Option<String> = None;
    // Which of them it is, is not told.
    for owner in items(owners) {
        let version = text(&owner["apiVersion"]);
        if version.is_empty() || version.ends_with('/') {
            errors.invalid(&path.child("apiVersion"), version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(&owner[field]).is_empty() {
                errors.invalid(&path.child(field), "", "must not be empty");
            }
        }
        if version == "v1" && text(&owner["kind"]) == "Event" {
            errors.invalid(path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if is_true(&owner["controller"]) {
            let this = format!("{}/{}", text(&owner["kind"]), text(&owner["name"]));
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.invalid(path, owners.clone(), detail);
            } else {
                controller = Some(this);
            }
        }
    }
}

fn finalizers(gvk: &GroupVersionKind, finalizers: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut deletion = [false, false];
    for (i, value) in items(finalizers).iter().enumerate() {
        let name = text(value);
        invalid_if(names::qualified_name(name), value, path, errors);
        if is_strict(gvk) {
            known_finalizer(name, &path.index(i), errors);
        }
        deletion[0] |= name == "orphan";
        deletion[1] |= name == "foregroundDeletion";
    }
    if deletion == [true, true] {
        errors.invalid(
            path,
            finalizers.clone(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

/// Whether finalizers are to be qualified. Definitions of custom resources have one of the server's own that is not.
fn is_strict(gvk: &GroupVersionKind) -> bool {
    let extends = matches!(gvk.group.as_str(), "apiextensions.k8s.io" | "apiregistration.k8s.io");
    !extends && Registry::builtin().kind(gvk).is_some()
}

/// One name in a list of finalizers of the server's own kinds.
pub fn finalizer(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    invalid_if(names::qualified_name(text(value)), value, path, errors);
    known_finalizer(text(value), path, errors);
}

fn known_finalizer(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        errors.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

pub fn update(gvk: &GroupVersionKind, new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    // Clients may leave these out, but not change them.
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let (new, old) = (&new[field], &old[field]);
        let dropped = !given(new) || text(new).is_empty() && new.is_string();
        if new != old && !dropped {
            errors.invalid(&path.child(field), new.clone(), IMMUTABLE);
        }
    }
    if let (Some(new), Some(old)) = (new["generation"].as_i64(), old["generation"].as_i64())
        && new < old
    {
        errors.invalid(&path.child("generation"), new, "must not be decremented");
    }
    if given(&old["deletionTimestamp"]) {
        let before = items(&old["finalizers"]);
        let added: Vec<String> = items(&new["finalizers"])
            .iter()
            .filter(|f| !before.contains(f))
            .map(|f| quote(text(f)))
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), detail);
        }
    }
    common(gvk, new, errors);
}
