//! What the scheduler reads: tolerations, affinity, spreading, node selection.

use super::names;
use super::read::{given, invalid_if, is_empty, items, one_of, text};
use super::selector::label_selector;
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub fn scheduling(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    super::metadata::labels(&spec["nodeSelector"], &path.child("nodeSelector"), errors);
    tolerations(&spec["tolerations"], &path.child("tolerations"), errors);
    affinity(&spec["affinity"], &path.child("affinity"), errors);
    spread(&spec["topologySpreadConstraints"], &path.child("topologySpreadConstraints"), errors);
    let gates = path.child("schedulingGates");
    let mut seen = HashSet::new();
    for (i, gate) in items(&spec["schedulingGates"]).iter().enumerate() {
        let path = gates.index(i);
        let name = text(&gate["name"]);
        invalid_if(names::qualified_name(name), &gate["name"], &path.child("name"), errors);
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}

pub fn tolerations(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, t) in items(list).iter().enumerate() {
        let path = path.index(i);
        let (key, operator, value) = (text(&t["key"]), text(&t["operator"]), text(&t["value"]));
        if !key.is_empty() {
            invalid_if(names::qualified_name(key), &t["key"], &path.child("key"), errors);
        } else if operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if given(&t["tolerationSeconds"]) && text(&t["effect"]) != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), text(&t["effect"]), detail);
        }
        match operator {
            "" | "Equal" => invalid_if(names::label_value(value), &t["value"], &path.child("value"), errors),
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.invalid(&path.child("value"), value, detail);
                }
            }
            "Lt" | "Gt" => {
                if value.parse::<i64>().is_err() {
                    let detail = "value must be an integer when `operator` is 'Lt' or 'Gt'";
                    errors.invalid(&path.child("value"), value, detail);
                }
            }
            other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists", "Gt", "Lt"]),
        }
        if !text(&t["effect"]).is_empty() {
            one_of(&t["effect"], &EFFECTS, &path.child("effect"), errors);
        }
    }
}

pub fn taints(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (i, taint) in items(list).iter().enumerate() {
        let path = path.index(i);
        let (key, effect) = (text(&taint["key"]), text(&taint["effect"]));
        invalid_if(names::qualified_name(key), &taint["key"], &path.child("key"), errors);
        if !text(&taint["value"]).is_empty() {
            invalid_if(
                names::label_value(text(&taint["value"])),
                &taint["value"],
                &path.child("value"),
                errors,
            );
        }
        if effect.is_empty() {
            errors.required(&path.child("effect"), "");
        } else {
            one_of(&taint["effect"], &EFFECTS, &path.child("effect"), errors);
        }
        if !seen.insert((key, effect)) {
            errors.duplicate(&path, taint.clone());
        }
    }
}

fn affinity(affinity: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(affinity) {
        return;
    }
    let node = &affinity["nodeAffinity"];
    if given(node) {
        let path = path.child("nodeAffinity");
        let required = &node["requiredDuringSchedulingIgnoredDuringExecution"];
        if given(required) {
            node_selector(required, &path.child("requiredDuringSchedulingIgnoredDuringExecution"), errors);
        }
        let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in items(&node["preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
            let path = list.index(i);
            weight(term, &path, errors);
            node_term(&term["preference"], &path.child("preference"), errors);
        }
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let pods = &affinity[name];
        let path = path.child(name);
        let list = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in items(&pods["requiredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
            pod_term(term, &list.index(i), errors);
        }
        let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in items(&pods["preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
            let path = list.index(i);
            weight(term, &path, errors);
            pod_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !term["weight"].as_i64().is_some_and(|n| (1..=100).contains(&n)) {
        errors.invalid(&path.child("weight"), term["weight"].clone(), "must be in the range 1-100");
    }
}

/// A NodeSelector: at least one term.
pub fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let terms = path.child("nodeSelectorTerms");
    if is_empty(&selector["nodeSelectorTerms"]) {
        errors.required(&terms, "must have at least one node selector term");
    }
    for (i, term) in items(&selector["nodeSelectorTerms"]).iter().enumerate() {
        node_term(term, &terms.index(i), errors);
        label_values(term, &terms.index(i), errors);
    }
}

fn node_term(term: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for list in ["matchExpressions", "matchFields"] {
        let list_path = path.child(list);
        for (i, requirement) in items(&term[list]).iter().enumerate() {
            let path = list_path.index(i);
            let values = items(&requirement["values"]);
            let values_path = path.child("values");
            match text(&requirement["operator"]) {
                "In" | "NotIn" if values.is_empty() => {
                    errors.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
                }
                "Exists" | "DoesNotExist" if !values.is_empty() => {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.forbidden(&values_path, detail);
                }
                "Gt" | "Lt" if values.len() != 1 => {
                    errors.required(
                        &values_path,
                        "must be specified single value when `operator` is 'Lt' or 'Gt'",
                    );
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
                other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
            }
            if list == "matchExpressions" {
                let key = &requirement["key"];
                invalid_if(names::qualified_name(text(key)), key, &path.child("key"), errors);
            } else {
                node_field(requirement, &path, errors);
            }
        }
    }
}

/// What no label can be would never match. (Preferences may ask for it all the same, as they always could.)
fn label_values(term: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let list = path.child("matchExpressions");
    for (i, requirement) in items(&term["matchExpressions"]).iter().enumerate() {
        let path = list.index(i);
        let path = path.child("values");
        for (j, value) in items(&requirement["values"]).iter().enumerate() {
            invalid_if(names::label_value(text(value)), value, &path.index(j), errors);
        }
    }
}

/// Nodes are told apart by one field, and that has one value.
fn node_field(requirement: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let operator = text(&requirement["operator"]);
    let values = items(&requirement["values"]);
    if matches!(operator, "In" | "NotIn") {
        if values.len() > 1 {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.child("values"), why);
        }
    } else {
        errors.invalid(&path.child("operator"), operator, "not a valid selector operator");
    }
    if text(&requirement["key"]) != "metadata.name" {
        errors.invalid(&path.child("key"), text(&requirement["key"]), "not a valid field selector key");
        return;
    }
    let list = path.child("values");
    for (i, name) in values.iter().enumerate() {
        invalid_if(names::dns1123_subdomain(text(name)), name, &list.index(i), errors);
    }
}

/// `matchLabelKeys` and the like: keys whose values the pod brings itself.
fn label_keys(term: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let keys = items(&term[field]);
    if keys.is_empty() {
        return;
    }
    let list = path.child(field);
    if !given(&term["labelSelector"]) {
        errors.forbidden(&list, "must not be specified when labelSelector is not set");
        return;
    }
    let mut seen = HashSet::new();
    for (i, key) in keys.iter().enumerate() {
        invalid_if(names::qualified_name(text(key)), key, &list.index(i), errors);
        if !seen.insert(text(key)) {
            errors.duplicate(&list.index(i), key.clone());
        }
    }
}

fn pod_term(term: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    label_selector(&term["labelSelector"], &path.child("labelSelector"), errors);
    label_selector(&term["namespaceSelector"], &path.child("namespaceSelector"), errors);
    let namespaces = path.child("namespaces");
    for (i, name) in items(&term["namespaces"]).iter().enumerate() {
        invalid_if(names::dns1123_label(text(name)), name, &namespaces.index(i), errors);
    }
    topology_key(term, path, errors);
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(term, field, path, errors);
    }
    let list = path.child("matchLabelKeys");
    for (i, key) in items(&term["matchLabelKeys"]).iter().enumerate() {
        if items(&term["mismatchLabelKeys"]).contains(key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&list.index(i), key.clone(), why);
        }
    }
}

fn topology_key(term: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let key = &term["topologyKey"];
    if text(key).is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    } else {
        invalid_if(names::qualified_name(text(key)), key, &path.child("topologyKey"), errors);
    }
}

fn spread(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (i, c) in items(list).iter().enumerate() {
        let path = path.index(i);
        if is_empty(&c["whenUnsatisfiable"]) {
            errors.required(&path.child("whenUnsatisfiable"), "");
        }
        if c["maxSkew"].as_i64().unwrap_or_default() <= 0 {
            errors.invalid(&path.child("maxSkew"), c["maxSkew"].clone(), "must be greater than zero");
        }
        topology_key(c, &path, errors);
        one_of(
            &c["whenUnsatisfiable"],
            &["DoNotSchedule", "ScheduleAnyway"],
            &path.child("whenUnsatisfiable"),
            errors,
        );
        if !seen.insert((text(&c["topologyKey"]), text(&c["whenUnsatisfiable"]))) {
            let value = format!("{{{}, {}}}", text(&c["topologyKey"]), text(&c["whenUnsatisfiable"]));
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), value);
        }
        label_selector(&c["labelSelector"], &path.child("labelSelector"), errors);
        label_keys(c, "matchLabelKeys", &path, errors);
        if given(&c["minDomains"]) {
            if c["minDomains"].as_i64().is_some_and(|n| n <= 0) {
                errors.invalid(
                    &path.child("minDomains"),
                    c["minDomains"].clone(),
                    "must be greater than zero",
                );
            }
            if text(&c["whenUnsatisfiable"]) != "DoNotSchedule" {
                let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
                errors.invalid(&path.child("minDomains"), c["minDomains"].clone(), detail);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(&c[policy], &["Honor", "Ignore"], &path.child(policy), errors);
        }
    }
}
