//! What may change through `resize`: the CPU and memory of containers that run, as long as the pod stays what it is.

use super::pod_update::all_keys;
use super::read::{items, members, same, text};
use crate::field::{FieldErrors, Path};
use crate::pods::{is_sidecar, qos_class};
use serde_json::Value;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LISTS: [&str; 2] = ["containers", "initContainers"];

pub fn resize(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let metadata = Path::new("metadata");
    if !text(&old["metadata"]["annotations"][MIRROR]).is_empty() {
        errors.forbidden(&metadata.child("annotations").key(MIRROR), "static pods cannot be resized");
    }
    let (spec, path) = (&new["spec"], Path::new("spec"));
    let before = &old["spec"];
    if text(&before["os"]["name"]) == "windows" {
        errors.forbidden(&path, "windows pods cannot be resized");
    }
    if qos_class(new) != qos_class(old) {
        errors.invalid(&path, qos_class(new), "Pod QOS Class may not change as a result of resizing");
    }
    let changed = all_keys(spec, before).any(|field| match field {
        "containers" | "initContainers" => lists_differ(field, &spec[field], &before[field]),
        "resources" => amounts_differ(&spec["resources"], &before["resources"]),
        _ => !same(&spec[field], &before[field]),
    });
    if changed {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
    for list in LISTS {
        let path = path.child(list);
        for (i, (now, was)) in items(&spec[list]).iter().zip(items(&before[list])).enumerate() {
            let path = path.index(i);
            removed(&now["resources"], &was["resources"], &path.child("resources"), errors);
        }
    }
    removed(&spec["resources"], &before["resources"], &path.child("resources"), errors);
}

/// Whether containers differ in more than what resizing is for. An init container that ends has nothing to resize.
fn lists_differ(list: &str, new: &Value, old: &Value) -> bool {
    let (new, old) = (items(new), items(old));
    new.len() != old.len()
        || new.iter().zip(old).any(|(now, was)| {
            let resizable = list == "containers" || is_sidecar(was);
            all_keys(now, was).any(|field| match field {
                "resources" if resizable => amounts_differ(&now[field], &was[field]),
                "resizePolicy" if resizable => false,
                _ => !same(&now[field], &was[field]),
            })
        })
}

/// Whether anything but CPU and memory differs.
fn amounts_differ(new: &Value, old: &Value) -> bool {
    all_keys(new, old).any(|field| match field {
        "requests" | "limits" => all_keys(&new[field], &old[field])
            .any(|name| !matches!(name, "cpu" | "memory") && !same(&new[field][name], &old[field][name])),
        _ => !same(&new[field], &old[field]),
    })
}

fn removed(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (list, why) in
        [("requests", "resource requests cannot be removed"), ("limits", "resource limits cannot be removed")]
    {
        if members(&old[list]).any(|(name, _)| new[list].get(name).is_none()) {
            errors.forbidden(&path.child(list), why);
        }
    }
}
