//! What of a pod may change once it exists.

use super::placement;
use super::read::{items, same, text};
use crate::field::{FieldErrors, Path};
use serde_json::{Map, Value};

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of the pod itself.
pub fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let metadata = Path::new("metadata");
    let (now, before) = (&new["metadata"]["annotations"], &old["metadata"]["annotations"]);
    let annotations = metadata.child("annotations");
    super::pod::meaningful(now, before, &new["spec"], &annotations, errors);
    super::pod::mirror_update(now, before, &annotations, errors);
    let (new, old) = (&new["spec"], &old["spec"]);
    if new == old {
        return;
    }
    for list in ["containers", "initContainers"] {
        if items(&new[list]).len() != items(&old[list]).len() {
            errors.forbidden(&path.child(list), "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(new, old, &path, errors);
    gates(new, old, &path, errors);
    let kept = items(&old["tolerations"])
        .iter()
        .all(|t| items(&new["tolerations"]).iter().any(|n| toleration_like(n, t)));
    if !kept {
        errors.forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    let gated = !items(&old["schedulingGates"]).is_empty();
    if gated {
        placement::narrowed(new, old, &path, errors);
    }
    let changed: Vec<String> = all_keys(new, old)
        .filter(|key| match *key {
            "activeDeadlineSeconds" | "tolerations" | "schedulingGates" => false,
            "nodeSelector" if gated => false,
            "affinity" if gated => !same_but_for_nodes(&new["affinity"], &old["affinity"]),
            "terminationGracePeriodSeconds" => {
                let excused = old[*key].as_i64().is_some_and(|n| n < 0) && new[*key].as_i64() == Some(1);
                !excused && !same(&new[*key], &old[*key])
            }
            "containers" | "initContainers" => !same_but(&new[*key], &old[*key], &["image"]),
            _ => !same(&new[*key], &old[*key]),
        })
        .map(|key| format!("  spec.{key}"))
        .collect();
    if !changed.is_empty() {
        errors.forbidden(&path, format!("{MAY_CHANGE}\nchanged:\n{}", changed.join("\n")));
    }
}

/// Ephemeral containers may be added, through their own subresource, and never changed.
pub fn ephemeral_containers(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let path = path.child("ephemeralContainers");
    let new = items(&new["spec"]["ephemeralContainers"]);
    for before in items(&old["spec"]["ephemeralContainers"]) {
        let name = text(&before["name"]);
        match new.iter().position(|c| text(&c["name"]) == name) {
            None => errors.forbidden(
                &path,
                format!("existing ephemeral containers {} may not be removed\n", crate::field::quote(name)),
            ),
            Some(i) if new.get(i).is_some_and(|c| !same(c, before)) => {
                let detail = format!(
                    "existing ephemeral containers {} may not be changed\n",
                    crate::field::quote(name)
                );
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
}

/// The members of either.
pub fn all_keys<'a>(new: &'a Value, old: &'a Value) -> impl Iterator<Item = &'a str> {
    let keys = |v: &'a Value| v.as_object().into_iter().flat_map(Map::keys);
    let only_new = keys(new).filter(move |k| old.get(k.as_str()).is_none());
    keys(old).chain(only_new).map(String::as_str)
}

/// Lists of the same objects, apart from some fields.
fn same_but(new: &Value, old: &Value, fields: &[&str]) -> bool {
    let (new, old) = (items(new), items(old));
    new.len() == old.len()
        && new
            .iter()
            .zip(old)
            .all(|(n, o)| all_keys(n, o).all(|key| fields.contains(&key) || same(&n[key], &o[key])))
}

fn same_but_for_nodes(new: &Value, old: &Value) -> bool {
    all_keys(new, old).all(|field| field == "nodeAffinity" || same(&new[field], &old[field]))
}

fn toleration_like(a: &Value, b: &Value) -> bool {
    ["key", "operator", "value", "effect"].iter().all(|f| same(&a[*f], &b[*f]))
}

fn deadline(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("activeDeadlineSeconds");
    let (new_deadline, old_deadline) =
        (new["activeDeadlineSeconds"].as_i64(), old["activeDeadlineSeconds"].as_i64());
    match (new_deadline, old_deadline) {
        (Some(n), Some(o)) if n > o => {
            errors.invalid(&path, n, "must be less than or equal to previous value")
        }
        (None, Some(_)) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

fn gates(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let before = items(&old["schedulingGates"]);
    for gate in items(&new["schedulingGates"]) {
        if !before.contains(gate) {
            let detail = "only deletion is allowed, but found new scheduling gate ".to_owned()
                + &crate::field::quote(text(&gate["name"]));
            errors.forbidden(&path.child("schedulingGates"), detail);
        }
    }
}
