//! Admission webhook configurations.

use super::names;
use super::read::{given, in_range, is_empty, items, one_of, text};
use super::selector::label_selector;
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

pub fn webhooks(object: &Value, errors: &mut FieldErrors) {
    let list = Path::new("webhooks");
    let mut seen = HashSet::new();
    for (i, hook) in items(&object["webhooks"]).iter().enumerate() {
        let path = list.index(i);
        let name = text(&hook["name"]);
        if names::dns1123_subdomain(name).is_some() || name.split('.').count() < 3 {
            let detail = "should be a domain with at least three segments separated by dots";
            errors.invalid(&path.child("name"), name, detail);
        } else if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        client_config(&hook["clientConfig"], &path.child("clientConfig"), errors);
        rules(&hook["rules"], &path.child("rules"), errors);
        one_of(&hook["failurePolicy"], &["Fail", "Ignore"], &path.child("failurePolicy"), errors);
        one_of(&hook["matchPolicy"], &["Equivalent", "Exact"], &path.child("matchPolicy"), errors);
        one_of(
            &hook["reinvocationPolicy"],
            &["IfNeeded", "Never"],
            &path.child("reinvocationPolicy"),
            errors,
        );
        if given(&hook["sideEffects"]) {
            one_of(&hook["sideEffects"], &["None", "NoneOnDryRun"], &path.child("sideEffects"), errors);
        } else {
            errors.required(&path.child("sideEffects"), "must specify one of None, NoneOnDryRun");
        }
        let timeout = &hook["timeoutSeconds"];
        if timeout.as_i64().is_some_and(|n| !(1..=30).contains(&n)) {
            let why = "the timeout value must be between 1 and 30 seconds";
            errors.invalid(&path.child("timeoutSeconds"), timeout.clone(), why);
        }
        label_selector(&hook["namespaceSelector"], &path.child("namespaceSelector"), errors);
        label_selector(&hook["objectSelector"], &path.child("objectSelector"), errors);
        conditions(&hook["matchConditions"], &path.child("matchConditions"), errors);
        let versions = items(&hook["admissionReviewVersions"]);
        let path = path.child("admissionReviewVersions");
        if versions.is_empty() {
            errors.required(&path, "must specify one of v1, v1beta1");
        } else if !versions.iter().any(|v| matches!(text(v), "v1" | "v1beta1")) {
            let detail = "must include at least one of v1, v1beta1";
            errors.invalid(&path, hook["admissionReviewVersions"].clone(), detail);
        }
    }
}

/// Their names and that they say anything; what they say is for whoever knows the language.
pub fn conditions(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let conditions = items(list);
    if conditions.len() > 64 {
        errors.too_many(path, conditions.len(), 64);
    }
    let mut seen = HashSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        let name = text(&condition["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if let Some(problem) = names::qualified_name(name) {
            errors.invalid(&path.child("name"), name, problem);
        } else if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        if text(&condition["expression"]).trim().is_empty() {
            errors.required(&path.child("expression"), "");
        }
    }
}

fn client_config(config: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let service = &config["service"];
    match (given(&config["url"]), given(service)) {
        (true, false) => {
            let url = text(&config["url"]);
            let path = path.child("url");
            if !url.starts_with("https://") {
                let detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                errors.invalid(&path, url, detail);
            } else if url.contains(['#', '?']) || url.contains('@') {
                let detail = "user information, fragments and query parameters are not permitted in the URL";
                errors.invalid(&path, url, detail);
            }
        }
        (false, true) => {
            let path = path.child("service");
            for field in ["name", "namespace"] {
                if is_empty(&service[field]) {
                    errors.required(&path.child(field), format!("service {field} is required"));
                }
            }
            in_range(&service["port"], 1, 65535, &path.child("port"), errors);
        }
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

/// Which resources: of webhooks and of policies.
pub fn rules(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, rule) in items(list).iter().enumerate() {
        let path = path.index(i);
        for (field, called) in
            [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")]
        {
            let values = items(&rule[field]);
            let path = path.child(field);
            if values.is_empty() {
                errors.required(&path, "");
            }
            if values.len() > 1 && values.iter().any(|v| text(v) == "*") {
                let why = format!("if '*' is present, must not specify other {called}");
                errors.invalid(&path, rule[field].clone(), why);
            }
        }
        let versions = path.child("apiVersions");
        for (j, version) in items(&rule["apiVersions"]).iter().enumerate() {
            if text(version).is_empty() {
                errors.required(&versions.index(j), "");
            }
        }
        resources(&rule["resources"], &path.child("resources"), errors);
        let operations = path.child("operations");
        for (j, operation) in items(&rule["operations"]).iter().enumerate() {
            let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
            one_of(operation, &known, &operations.index(j), errors);
        }
        one_of(&rule["scope"], &["*", "Cluster", "Namespaced"], &path.child("scope"), errors);
    }
}

/// Resources, with their subresources behind a slash; none of them may be within what a wildcard names already.
fn resources(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let values = items(list);
    if values.is_empty() {
        errors.required(path, "");
    }
    let (mut all_below, mut everywhere) = (HashSet::new(), HashSet::new());
    for (i, value) in values.iter().enumerate() {
        let (name, path) = (text(value), path.index(i));
        if name.is_empty() {
            errors.required(&path, "");
        }
        let Some((resource, subresource)) = name.split_once('/') else { continue };
        if all_below.contains(resource) {
            errors.invalid(&path, name, format!("if '{resource}/*' is present, must not specify {name}"));
        }
        if everywhere.contains(subresource) {
            errors.invalid(&path, name, format!("if '*/{subresource}' is present, must not specify {name}"));
        }
        if subresource == "*" {
            all_below.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(subresource);
        }
    }
    let has = |wanted: fn(&str) -> bool| values.iter().any(|value| wanted(text(value)));
    if values.len() > 1 && has(|name| name == "*/*") {
        errors.invalid(path, list.clone(), "if '*/*' is present, must not specify other resources");
    }
    if has(|name| name == "*") && has(|name| name != "*" && !name.contains('/')) {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, list.clone(), why);
    }
}
