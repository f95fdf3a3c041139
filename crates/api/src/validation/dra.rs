//! Dynamic resource allocation: claims, their templates, classes of devices, and what drivers publish.

use super::names;
use super::read::{
    IMMUTABLE, given, invalid_if, is_empty, items, members, one_of, quantity, required, same, text,
};
use super::{csi, metadata, scheduling};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const SPEC: Path<'static> = Path::new("spec");
const MAX_REQUESTS: usize = 32;
const MAX_CONSTRAINTS: usize = 32;
const MAX_CONFIGS: usize = 32;
const MAX_SELECTORS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_DEVICES: usize = 128;
const MAX_ATTRIBUTES: usize = 32;
const MAX_EXPRESSION: usize = 10 << 10;

pub fn claim(object: &Value, errors: &mut FieldErrors) {
    devices(&object["spec"]["devices"], &SPEC.child("devices"), errors);
}

pub fn claim_template(object: &Value, errors: &mut FieldErrors) {
    let inner = &object["spec"];
    let path = SPEC.child("metadata");
    metadata::labels(&inner["metadata"]["labels"], &path.child("labels"), errors);
    metadata::annotations(&inner["metadata"]["annotations"], &path.child("annotations"), errors);
    let spec = SPEC.child("spec");
    devices(&inner["spec"]["devices"], &spec.child("devices"), errors);
}

/// What was asked for stays: who wants something else makes another claim.
pub fn immutable_spec(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if !same(&new["spec"], &old["spec"]) {
        errors.invalid(&SPEC, new["spec"].clone(), IMMUTABLE);
    }
}

fn at_most(list: &Value, max: usize, path: &Path<'_>, errors: &mut FieldErrors) {
    let count = items(list).len();
    if count > max {
        errors.too_many(path, count, max);
    }
}

fn devices(devices: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let requests = path.child("requests");
    at_most(&devices["requests"], MAX_REQUESTS, &requests, errors);
    // Requests and their alternatives, as constraints and configurations name them.
    let mut known: HashSet<String> = HashSet::new();
    for (i, one) in items(&devices["requests"]).iter().enumerate() {
        let path = requests.index(i);
        let name = text(&one["name"]);
        label(&one["name"], &path.child("name"), errors);
        if !name.is_empty() && !known.insert(name.to_owned()) {
            errors.duplicate(&path.child("name"), name);
        }
        request(one, &path, &mut known, errors);
    }
    let list = path.child("constraints");
    at_most(&devices["constraints"], MAX_CONSTRAINTS, &list, errors);
    for (i, one) in items(&devices["constraints"]).iter().enumerate() {
        let path = list.index(i);
        named_requests(&one["requests"], &known, &path.child("requests"), errors);
        let (matching, distinct) = (&one["matchAttribute"], &one["distinctAttribute"]);
        if !given(matching) && !given(distinct) {
            errors.required(&path.child("matchAttribute"), "");
        }
        for (field, value) in [("matchAttribute", matching), ("distinctAttribute", distinct)] {
            if given(value) {
                qualified(text(value), true, &path.child(field), errors);
            }
        }
    }
    let list = path.child("config");
    at_most(&devices["config"], MAX_CONFIGS, &list, errors);
    for (i, one) in items(&devices["config"]).iter().enumerate() {
        let path = list.index(i);
        named_requests(&one["requests"], &known, &path.child("requests"), errors);
        opaque(&one["opaque"], &path.child("opaque"), errors);
    }
}

fn request(one: &Value, path: &Path<'_>, known: &mut HashSet<String>, errors: &mut FieldErrors) {
    let alternatives = items(&one["firstAvailable"]);
    match (given(&one["exactly"]), alternatives.is_empty()) {
        (false, true) => {
            errors.required(path, "exactly one of `exactly` or `firstAvailable` is required");
            return;
        }
        (true, false) => {
            errors.invalid(
                path,
                "{exactly, firstAvailable}",
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
            );
            return;
        }
        (true, true) => exact(&one["exactly"], &path.child("exactly"), errors),
        (false, false) => {}
    }
    let list = path.child("firstAvailable");
    at_most(&one["firstAvailable"], MAX_ALTERNATIVES, &list, errors);
    let mut seen = HashSet::new();
    for (i, alternative) in alternatives.iter().enumerate() {
        let path = list.index(i);
        let name = text(&alternative["name"]);
        label(&alternative["name"], &path.child("name"), errors);
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        known.insert(format!("{}/{name}", text(&one["name"])));
        exact(alternative, &path, errors);
    }
}

fn exact(request: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let class = &request["deviceClassName"];
    if text(class).is_empty() {
        errors.required(&path.child("deviceClassName"), "");
    } else {
        invalid_if(names::dns1123_subdomain(text(class)), class, &path.child("deviceClassName"), errors);
    }
    selectors(&request["selectors"], &path.child("selectors"), errors);
    let count = &request["count"];
    match text(&request["allocationMode"]) {
        "All" => {
            if count.as_i64().is_some_and(|n| n != 0) {
                let why = "must not be specified when allocationMode is 'All'";
                errors.invalid(&path.child("count"), count.clone(), why);
            }
        }
        "ExactCount" => {
            if count.as_i64().unwrap_or(0) <= 0 {
                errors.invalid(&path.child("count"), count.clone(), "must be greater than zero");
            }
        }
        other => errors.not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"]),
    }
    scheduling::tolerations(&request["tolerations"], &path.child("tolerations"), errors);
}

pub fn class(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    selectors(&spec["selectors"], &SPEC.child("selectors"), errors);
    let list = SPEC.child("config");
    at_most(&spec["config"], MAX_CONFIGS, &list, errors);
    for (i, one) in items(&spec["config"]).iter().enumerate() {
        opaque(&one["opaque"], &list.index(i).child("opaque"), errors);
    }
    if !is_empty(&spec["extendedResourceName"]) {
        let name = &spec["extendedResourceName"];
        invalid_if(names::qualified_name(text(name)), name, &SPEC.child("extendedResourceName"), errors);
    }
}

fn selectors(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, MAX_SELECTORS, path, errors);
    for (i, selector) in items(list).iter().enumerate() {
        let path = path.index(i);
        if !given(&selector["cel"]) {
            errors.required(&path.child("cel"), "");
            continue;
        }
        let path = path.child("cel");
        let expression = text(&selector["cel"]["expression"]);
        if expression.is_empty() {
            errors.required(&path.child("expression"), "");
        } else if expression.len() > MAX_EXPRESSION {
            errors.too_long(&path.child("expression"), MAX_EXPRESSION);
        }
    }
}

fn named_requests(list: &Value, known: &HashSet<String>, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, MAX_REQUESTS, path, errors);
    let mut seen = HashSet::new();
    for (i, name) in items(list).iter().enumerate() {
        let path = path.index(i);
        if !seen.insert(text(name)) {
            errors.duplicate(&path, name.clone());
        } else if !known.contains(text(name)) {
            let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
            errors.invalid(&path, name.clone(), why);
        }
    }
}

fn opaque(opaque: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(opaque) {
        errors.required(path, "");
        return;
    }
    csi::driver_name(&opaque["driver"], &path.child("driver"), errors);
    match &opaque["parameters"] {
        Value::Null => errors.required(&path.child("parameters"), ""),
        Value::Object(_) => {}
        other => {
            errors.invalid(&path.child("parameters"), other.clone(), "parameters must be a valid JSON object")
        }
    }
}

fn label(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if text(value).is_empty() {
        errors.required(path, "");
    } else {
        invalid_if(names::dns1123_label(text(value)), value, path, errors);
    }
}

/// `driver.example.com/name`, where the driver may be left out of its own slices.
fn qualified(name: &str, with_domain: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let identifier = match name.split_once('/') {
        Some((domain, rest)) => {
            if let Some(problem) = names::dns1123_subdomain(domain) {
                errors.invalid(path, domain, problem);
            }
            rest
        }
        None if with_domain => {
            errors.invalid(path, name, "must include a domain");
            return;
        }
        None => name,
    };
    let mut bytes = identifier.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts || identifier.len() > 32 || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        errors.invalid(path, identifier, "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')");
    }
}

pub fn slice(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    csi::driver_name(&spec["driver"], &SPEC.child("driver"), errors);
    pool(&spec["pool"], &SPEC.child("pool"), errors);
    let ways = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    let set: Vec<&str> = ways
        .into_iter()
        .filter(|way| match &spec[*way] {
            Value::Bool(on) => *on,
            Value::String(text) => !text.is_empty(),
            other => given(other),
        })
        .collect();
    match set.as_slice() {
        [] => errors.required(
            &SPEC,
            "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
        ),
        [_] => {}
        many => {
            let shown = format!("{{`{}`}}", many.join("`, `"));
            errors.invalid(&SPEC, shown, "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set");
        }
    }
    if !is_empty(&spec["nodeName"]) {
        invalid_if(
            names::dns1123_subdomain(text(&spec["nodeName"])),
            &spec["nodeName"],
            &SPEC.child("nodeName"),
            errors,
        );
    }
    if given(&spec["nodeSelector"]) {
        let path = SPEC.child("nodeSelector");
        scheduling::node_selector(&spec["nodeSelector"], &path, errors);
        if items(&spec["nodeSelector"]["nodeSelectorTerms"]).len() > 1 {
            let why = "must have exactly one node selector term";
            errors.invalid(
                &path.child("nodeSelectorTerms"),
                spec["nodeSelector"]["nodeSelectorTerms"].clone(),
                why,
            );
        }
    }
    let list = SPEC.child("devices");
    at_most(&spec["devices"], MAX_DEVICES, &list, errors);
    let mut seen = HashSet::new();
    for (i, device) in items(&spec["devices"]).iter().enumerate() {
        let path = list.index(i);
        label(&device["name"], &path.child("name"), errors);
        if !seen.insert(text(&device["name"])) {
            errors.duplicate(&path.child("name"), device["name"].clone());
        }
        published(device, &path, errors);
    }
}

fn pool(pool: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = &pool["name"];
    if text(name).is_empty() {
        errors.required(&path.child("name"), "");
    } else if text(name).len() > 253 {
        errors.too_long(&path.child("name"), 253);
    } else {
        for part in text(name).split('/') {
            if let Some(problem) = names::dns1123_subdomain(part) {
                errors.invalid(&path.child("name"), part, problem);
            }
        }
    }
    if pool["resourceSliceCount"].as_i64().unwrap_or(0) <= 0 {
        errors.invalid(
            &path.child("resourceSliceCount"),
            pool["resourceSliceCount"].clone(),
            "must be greater than zero",
        );
    }
    if pool["generation"].as_i64().is_some_and(|n| n < 0) {
        errors.invalid(
            &path.child("generation"),
            pool["generation"].clone(),
            "must be greater than or equal to zero",
        );
    }
}

fn published(device: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let attributes = path.child("attributes");
    let count = members(&device["attributes"]).count() + members(&device["capacity"]).count();
    if count > MAX_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        errors.invalid(path, count, why);
    }
    for (name, attribute) in members(&device["attributes"]) {
        let path = attributes.key(name);
        qualified(name, false, &path, errors);
        let kinds: Vec<&str> = ["bool", "int", "string", "version"]
            .into_iter()
            .filter(|kind| given(&attribute[*kind]))
            .collect();
        match kinds.as_slice() {
            [] => errors.required(&path, "exactly one value must be specified"),
            [_] => {}
            _ => errors.invalid(&path, attribute.clone(), "exactly one value must be specified"),
        }
        for kind in ["string", "version"] {
            if text(&attribute[kind]).len() > 64 {
                errors.too_long(&path.child(kind), 64);
            }
        }
    }
    let capacities = path.child("capacity");
    for (name, capacity) in members(&device["capacity"]) {
        let path = capacities.key(name);
        qualified(name, false, &path, errors);
        quantity(&capacity["value"], &path.child("value"), errors);
    }
    let list = path.child("taints");
    for (i, taint) in items(&device["taints"]).iter().enumerate() {
        let path = list.index(i);
        invalid_if(names::qualified_name(text(&taint["key"])), &taint["key"], &path.child("key"), errors);
        required(&taint["effect"], &path.child("effect"), errors);
        if !is_empty(&taint["effect"]) {
            one_of(&taint["effect"], &["NoExecute", "NoSchedule", "None"], &path.child("effect"), errors);
        }
    }
}

pub fn slice_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    for field in ["driver", "nodeName", "allNodes"] {
        if !same(&new[field], &old[field]) {
            errors.invalid(&SPEC.child(field), new[field].clone(), IMMUTABLE);
        }
    }
    if !same(&new["pool"]["name"], &old["pool"]["name"]) {
        let pool = SPEC.child("pool");
        errors.invalid(&pool.child("name"), new["pool"]["name"].clone(), IMMUTABLE);
    }
}

/// A claim is allocated once, and only what is allocated is reserved.
pub fn claim_status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    let (now, before) = (&new["status"], &old["status"]);
    let list = path.child("reservedFor");
    if items(&now["reservedFor"]).len() > 256 {
        errors.too_many(&list, items(&now["reservedFor"]).len(), 256);
    }
    let mut seen = HashSet::new();
    for (i, user) in items(&now["reservedFor"]).iter().enumerate() {
        let path = list.index(i);
        for field in ["resource", "name", "uid"] {
            required(&user[field], &path.child(field), errors);
        }
        if !seen.insert(text(&user["uid"])) {
            errors.duplicate(&path.child("uid"), user["uid"].clone());
        }
    }
    if !is_empty(&now["reservedFor"]) && !given(&now["allocation"]) {
        errors.forbidden(&list, "may not be specified when `allocated` is not set");
    }
    if given(&now["allocation"])
        && given(&before["allocation"])
        && !same(&now["allocation"], &before["allocation"])
    {
        errors.invalid(&path.child("allocation"), now["allocation"].clone(), IMMUTABLE);
    }
    if given(&before["allocation"]) && !given(&now["allocation"]) && !is_empty(&now["reservedFor"]) {
        errors.forbidden(&path.child("allocation"), "may not be removed while the claim is reserved");
    }
    let results = path.child("allocation");
    let results = results.child("devices");
    let results = results.child("results");
    let wanted: HashSet<&str> =
        items(&new["spec"]["devices"]["requests"]).iter().map(|r| text(&r["name"])).collect();
    for (i, result) in items(&now["allocation"]["devices"]["results"]).iter().enumerate() {
        let path = results.index(i);
        let request = text(&result["request"]);
        if !wanted.contains(request.split('/').next().unwrap_or_default()) {
            let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
            errors.invalid(&path.child("request"), request, why);
        }
        csi::driver_name(&result["driver"], &path.child("driver"), errors);
        for field in ["pool", "device"] {
            required(&result[field], &path.child(field), errors);
        }
    }
}
