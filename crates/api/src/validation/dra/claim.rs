//! ResourceClaims and their templates: what is asked for.

use super::taints::tolerations;
use super::{
    MAX_CONFIGS, MAX_CONSTRAINTS, MAX_REQUESTS, SPEC, at_most, label, named_requests, opaque, qualified,
    selectors,
};
use crate::field::{FieldErrors, Path};
use crate::validation::read::{IMMUTABLE, given, invalid_if, items, members, quantity, same, text};
use crate::validation::{metadata, names};
use serde_json::Value;
use std::collections::HashSet;

const MAX_ALTERNATIVES: usize = 8;

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

/// Requests and their alternatives, as constraints, configurations and results name them.
pub fn request_names(devices: &Value) -> HashSet<String> {
    let mut known = HashSet::new();
    for request in items(&devices["requests"]) {
        let name = text(&request["name"]);
        known.insert(name.to_owned());
        for alternative in items(&request["firstAvailable"]) {
            known.insert(format!("{name}/{}", text(&alternative["name"])));
        }
    }
    known
}

fn devices(devices: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let requests = path.child("requests");
    at_most(&devices["requests"], MAX_REQUESTS, &requests, errors);
    let mut seen = HashSet::new();
    for (i, one) in items(&devices["requests"]).iter().enumerate() {
        let path = requests.index(i);
        let name = text(&one["name"]);
        label(&one["name"], &path.child("name"), errors);
        if !name.is_empty() && !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        request(one, &path, errors);
    }
    let known = request_names(devices);
    let list = path.child("constraints");
    at_most(&devices["constraints"], MAX_CONSTRAINTS, &list, errors);
    for (i, one) in items(&devices["constraints"]).iter().enumerate() {
        let path = list.index(i);
        named_requests(&one["requests"], &known, &path.child("requests"), errors);
        constraint(one, &path, errors);
    }
    let list = path.child("config");
    at_most(&devices["config"], MAX_CONFIGS, &list, errors);
    for (i, one) in items(&devices["config"]).iter().enumerate() {
        let path = list.index(i);
        named_requests(&one["requests"], &known, &path.child("requests"), errors);
        opaque(&one["opaque"], &path.child("opaque"), errors);
    }
}

fn constraint(constraint: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let set: Vec<&str> = ["matchAttribute", "distinctAttribute"]
        .into_iter()
        .filter(|field| given(&constraint[*field]))
        .collect();
    match set.as_slice() {
        [] => errors.required(path, "exactly one of `matchAttribute` or `distinctAttribute` is required"),
        [one] => qualified(text(&constraint[*one]), true, &path.child(one), errors),
        _ => errors.invalid(
            path,
            "{matchAttribute, distinctAttribute}",
            "exactly one of `matchAttribute` or `distinctAttribute` is required, but multiple fields are set",
        ),
    }
}

fn request(one: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
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
    tolerations(&request["tolerations"], &path.child("tolerations"), errors);
    let capacity = path.child("capacity");
    let amounts = capacity.child("requests");
    for (name, amount) in members(&request["capacity"]["requests"]) {
        let path = amounts.key(name);
        qualified(name, false, &path, errors);
        quantity(amount, &path, errors);
    }
}
