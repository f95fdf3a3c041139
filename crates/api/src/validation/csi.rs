//! What CSI drivers and the controllers of volumes say: drivers, nodes, capacities, attachments, attribute classes.

use super::names;
use super::read::{
    IMMUTABLE, given, invalid_if, is_empty, items, members, one_of, quantity, required, same, text,
};
use super::selector::label_selector;
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const SPEC: Path<'static> = Path::new("spec");
const MAX_DRIVER_NAME: usize = 63;
const MAX_PARAMETERS: usize = 256 << 10;

/// A driver's name is a domain, in whatever case.
pub fn driver_name(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(value);
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > MAX_DRIVER_NAME {
        errors.too_long(path, MAX_DRIVER_NAME);
    }
    invalid_if(names::dns1123_subdomain(&name.to_lowercase()), value, path, errors);
}

pub fn driver(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let metadata = Path::new("metadata");
    driver_name(&object["metadata"]["name"], &metadata.child("name"), errors);
    for field in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if !given(&spec[field]) {
            errors.required(&SPEC.child(field), "");
        }
    }
    one_of(
        &spec["fsGroupPolicy"],
        &["File", "None", "ReadWriteOnceWithFSType"],
        &SPEC.child("fsGroupPolicy"),
        errors,
    );
    let modes = SPEC.child("volumeLifecycleModes");
    for mode in items(&spec["volumeLifecycleModes"]) {
        if !matches!(text(mode), "Persistent" | "Ephemeral") {
            errors.not_supported(&modes, mode.clone(), &["Ephemeral", "Persistent"]);
        }
    }
    let requests = SPEC.child("tokenRequests");
    let mut audiences = HashSet::new();
    for (i, request) in items(&spec["tokenRequests"]).iter().enumerate() {
        let path = requests.index(i);
        if !audiences.insert(text(&request["audience"])) {
            errors.duplicate(&path.child("audience"), request["audience"].clone());
        }
        match request["expirationSeconds"].as_i64() {
            Some(n) if n < 600 => {
                let why = "may not specify a duration less than 10 minutes";
                errors.invalid(&path.child("expirationSeconds"), n, why);
            }
            Some(n) if n > 1 << 32 => {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.invalid(&path.child("expirationSeconds"), n, why);
            }
            _ => {}
        }
    }
    if spec["serviceAccountTokenInSecrets"] == Value::Bool(true) && items(&spec["tokenRequests"]).is_empty() {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&SPEC.child("serviceAccountTokenInSecrets"), true, why);
    }
    if spec["nodeAllocatableUpdatePeriodSeconds"].as_i64().is_some_and(|n| n < 10) {
        errors.invalid(
            &SPEC.child("nodeAllocatableUpdatePeriodSeconds"),
            spec["nodeAllocatableUpdatePeriodSeconds"].clone(),
            "must be greater than or equal to 10 seconds",
        );
    }
}

pub fn driver_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    // The first is called so in messages.
    for (field, called) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        if !same(&new["spec"][field], &old["spec"][field]) {
            errors.invalid(&SPEC.child(called), new["spec"][field].clone(), IMMUTABLE);
        }
    }
}

pub fn node(object: &Value, errors: &mut FieldErrors) {
    let list = SPEC.child("drivers");
    let mut seen = HashSet::new();
    for (i, driver) in items(&object["spec"]["drivers"]).iter().enumerate() {
        let path = list.index(i);
        driver_name(&driver["name"], &path.child("name"), errors);
        if !seen.insert(text(&driver["name"])) {
            errors.duplicate(&path.child("name"), driver["name"].clone());
        }
        let id = text(&driver["nodeID"]);
        if id.is_empty() {
            errors.required(&path.child("nodeID"), id);
        } else if id.len() > 256 {
            errors.invalid(&path.child("nodeID"), id, "must be 256 characters or less");
        }
        if driver["allocatable"]["count"].as_i64().is_some_and(|n| n < 0) {
            let allocatable = path.child("allocatable");
            let value = driver["allocatable"]["count"].clone();
            errors.invalid(&allocatable.child("count"), value, "must be greater than or equal to 0");
        }
        let keys = path.child("topologyKeys");
        let mut known = HashSet::new();
        for key in items(&driver["topologyKeys"]) {
            if !known.insert(text(key)) {
                errors.duplicate(&keys, key.clone());
            }
            invalid_if(names::qualified_name(text(key)), key, &keys, errors);
        }
    }
}

/// A driver that is registered on a node stays what it is, apart from how much it can allocate.
pub fn node_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if new["spec"] == old["spec"] {
        return;
    }
    let list = SPEC.child("drivers");
    for before in items(&old["spec"]["drivers"]) {
        let now =
            items(&new["spec"]["drivers"]).iter().enumerate().find(|(_, d)| d["name"] == before["name"]);
        if let Some((i, now)) = now
            && ["nodeID", "topologyKeys"].iter().any(|field| !same(&now[*field], &before[*field]))
        {
            errors.invalid(&list.index(i), now.clone(), IMMUTABLE);
        }
    }
}

pub fn capacity(object: &Value, errors: &mut FieldErrors) {
    label_selector(&object["nodeTopology"], &Path::new("nodeTopology"), errors);
    let class = &object["storageClassName"];
    if text(class).is_empty() {
        errors.required(&Path::new("storageClassName"), "");
    } else {
        invalid_if(names::dns1123_subdomain(text(class)), class, &Path::new("storageClassName"), errors);
    }
    for field in ["capacity", "maximumVolumeSize"] {
        if given(&object[field]) {
            quantity(&object[field], &Path::new(field), errors);
        }
    }
}

pub fn capacity_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    for field in ["nodeTopology", "storageClassName"] {
        if !same(&new[field], &old[field]) {
            errors.invalid(&Path::new(field), new[field].clone(), IMMUTABLE);
        }
    }
}

pub fn attachment(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    driver_name(&spec["attacher"], &SPEC.child("attacher"), errors);
    let source = SPEC.child("source");
    let name = &spec["source"]["persistentVolumeName"];
    let inline = &spec["source"]["inlineVolumeSpec"];
    match (given(name), given(inline)) {
        (false, false) => {
            errors.required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        }
        (true, true) => {
            errors.forbidden(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        }
        (true, false) if text(name).is_empty() => {
            errors.required(
                &source.child("persistentVolumeName"),
                "must specify non empty persistentVolumeName",
            );
        }
        (true, false) => {
            let path = source.child("persistentVolumeName");
            invalid_if(names::dns1123_subdomain(text(name)), name, &path, errors);
        }
        (false, true) => {}
    }
    required(&spec["nodeName"], &SPEC.child("nodeName"), errors);
    if !text(&spec["nodeName"]).is_empty() {
        let problem = names::dns1123_subdomain(text(&spec["nodeName"]));
        invalid_if(problem, &spec["nodeName"], &SPEC.child("nodeName"), errors);
    }
    attachment_status(object, errors);
}

pub fn attachment_status(object: &Value, errors: &mut FieldErrors) {
    let status = &object["status"];
    let path = Path::new("status");
    let metadata = path.child("attachmentMetadata");
    let size: usize = members(&status["attachmentMetadata"]).map(|(k, v)| k.len() + text(v).len()).sum();
    if size > MAX_PARAMETERS {
        errors.too_long(&metadata, MAX_PARAMETERS);
    }
    for field in ["attachError", "detachError"] {
        if text(&status[field]["message"]).len() > 1 << 20 {
            errors.too_long(&path.child(field).child("message"), 1 << 20);
        }
    }
}

pub fn attachment_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if !same(&new["spec"], &old["spec"]) {
        errors.invalid(&SPEC, new["spec"].clone(), IMMUTABLE);
    }
}

pub fn attributes_class(object: &Value, errors: &mut FieldErrors) {
    driver_name(&object["driverName"], &Path::new("driverName"), errors);
    let parameters = &object["parameters"];
    let path = Path::new("parameters");
    if is_empty(parameters) {
        errors.required(&path, "must contain at least one key/value pair");
    }
    parameters_of(parameters, &path, errors);
}

/// Parameters of classes: bounded, with keys that are not empty.
pub fn parameters_of(parameters: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if parameters.as_object().is_some_and(|p| p.len() > 512) {
        errors.too_long(path, 512);
        return;
    }
    let mut size = 0;
    for (key, value) in members(parameters) {
        if key.is_empty() {
            errors.invalid(path, key.as_str(), "field can not be empty.");
        }
        size += key.len() + text(value).len();
    }
    if size > MAX_PARAMETERS {
        errors.too_long(path, MAX_PARAMETERS);
    }
}

pub fn attributes_class_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    for (field, why) in [
        ("driverName", "updates to driverName are forbidden."),
        ("parameters", "updates to parameters are forbidden."),
    ] {
        if !same(&new[field], &old[field]) {
            errors.forbidden(&Path::new(field), why);
        }
    }
}
