//! ResourceSlices: what drivers publish.

use super::{SPEC, at_most, counters, device, label, one_node_term, pool_name, set_of};
use crate::field::{FieldErrors, Path};
use crate::validation::read::{IMMUTABLE, given, invalid_if, is_empty, is_true, items, same, text};
use crate::validation::{csi, names};
use serde_json::Value;
use std::collections::HashSet;

const MAX_DEVICES: usize = 128;
/// Where devices have taints or share counters.
const MAX_COMPLEX_DEVICES: usize = 64;
const WAYS: [&str; 4] = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];

pub fn slice(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    csi::driver_name(&spec["driver"], &SPEC.child("driver"), errors);
    pool(&spec["pool"], &SPEC.child("pool"), errors);
    nodes(spec, errors);
    let list = SPEC.child("devices");
    let devices = items(&spec["devices"]);
    if !devices.is_empty() && !is_empty(&spec["sharedCounters"]) {
        let why = "only one of `sharedCounters` or `devices` is allowed";
        errors.invalid(&SPEC, "{`sharedCounters`, `devices`}", why);
    }
    let complex = |device: &Value| !is_empty(&device["taints"]) || !is_empty(&device["consumesCounters"]);
    let most = if devices.iter().any(complex) { MAX_COMPLEX_DEVICES } else { MAX_DEVICES };
    at_most(&spec["devices"], most, &list, errors);
    let placed = is_true(&spec["perDeviceNodeSelection"]);
    let mut seen = HashSet::new();
    for (i, one) in devices.iter().enumerate() {
        let path = list.index(i);
        label(&one["name"], &path.child("name"), errors);
        if !seen.insert(text(&one["name"])) {
            errors.duplicate(&path.child("name"), one["name"].clone());
        }
        device::device(one, placed, &path, errors);
    }
    counters::shared(&spec["sharedCounters"], &SPEC.child("sharedCounters"), errors);
}

fn nodes(spec: &Value, errors: &mut FieldErrors) {
    const WHY: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    for field in ["allNodes", "perDeviceNodeSelection"] {
        if spec[field] == Value::Bool(false) {
            errors.invalid(&SPEC.child(field), false, "must be either unset or set to true");
        }
    }
    match set_of(spec, &WAYS).as_slice() {
        [] => errors.required(&SPEC, WHY),
        [_] => {}
        many => {
            let shown = format!("{{`{}`}}", many.join("`, `"));
            errors.invalid(&SPEC, shown, format!("{WHY}, but multiple fields are set"));
        }
    }
    let name = &spec["nodeName"];
    if given(name) {
        invalid_if(names::dns1123_subdomain(text(name)), name, &SPEC.child("nodeName"), errors);
    }
    one_node_term(&spec["nodeSelector"], &SPEC.child("nodeSelector"), errors);
}

fn pool(pool: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    pool_name(&pool["name"], &path.child("name"), errors);
    let (count, generation) = (&pool["resourceSliceCount"], &pool["generation"]);
    if count.as_i64().unwrap_or(0) <= 0 {
        errors.invalid(&path.child("resourceSliceCount"), count.clone(), "must be greater than zero");
    }
    if generation.as_i64().is_some_and(|n| n < 0) {
        let why = "must be greater than or equal to zero";
        errors.invalid(&path.child("generation"), generation.clone(), why);
    }
}

pub fn slice_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    for field in ["driver", "nodeName"] {
        if !same(&new[field], &old[field]) {
            errors.invalid(&SPEC.child(field), new[field].clone(), IMMUTABLE);
        }
    }
    if !same(&new["pool"]["name"], &old["pool"]["name"]) {
        let pool = SPEC.child("pool");
        errors.invalid(&pool.child("name"), new["pool"]["name"].clone(), IMMUTABLE);
    }
}
