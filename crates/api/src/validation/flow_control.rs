//! Priority and fairness: flow schemas and the levels that they lead to.

use super::names;
use super::read::{given, in_range, invalid_if, is_empty, items, not_negative, required, same, text};
use crate::field::{FieldErrors, Path};
use serde_json::{Value, json};

const SPEC: Path<'static> = Path::new("spec");
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

pub fn flow_schema(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let name = text(&object["metadata"]["name"]);
    if matches!(name, "exempt" | "catch-all") && !same(spec, &mandatory_schema(name)) {
        let why = format!("spec of '{name}' must equal the fixed value");
        errors.invalid(&SPEC, spec.clone(), why);
    }
    in_range(&spec["matchingPrecedence"], 1, 10_000, &SPEC.child("matchingPrecedence"), errors);
    if spec["matchingPrecedence"].as_i64() == Some(1) && name != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&SPEC.child("matchingPrecedence"), 1, why);
    }
    if given(&spec["distinguisherMethod"]) {
        let path = SPEC.child("distinguisherMethod");
        let known = ["ByNamespace", "ByUser"];
        if !known.contains(&text(&spec["distinguisherMethod"]["type"])) {
            errors.not_supported(&path, spec["distinguisherMethod"].clone(), &known);
        }
    }
    let level = &spec["priorityLevelConfiguration"]["name"];
    let path = SPEC.child("priorityLevelConfiguration");
    if text(level).is_empty() {
        errors.required(&path.child("name"), "must reference a priority level");
    } else {
        invalid_if(names::dns1123_subdomain(text(level)), level, &path.child("name"), errors);
    }
    let rules = SPEC.child("rules");
    for (i, rule) in items(&spec["rules"]).iter().enumerate() {
        let path = rules.index(i);
        let subjects = path.child("subjects");
        if is_empty(&rule["subjects"]) {
            errors.required(&subjects, "subjects must contain at least one value");
        }
        for (j, one) in items(&rule["subjects"]).iter().enumerate() {
            subject(one, &subjects.index(j), errors);
        }
        if is_empty(&rule["resourceRules"]) && is_empty(&rule["nonResourceRules"]) {
            errors.required(&path, "at least one of resourceRules and nonResourceRules has to be non-empty");
        }
        let list = path.child("resourceRules");
        for (j, one) in items(&rule["resourceRules"]).iter().enumerate() {
            resource_rule(one, &list.index(j), errors);
        }
        let list = path.child("nonResourceRules");
        for (j, one) in items(&rule["nonResourceRules"]).iter().enumerate() {
            non_resource_rule(one, &list.index(j), errors);
        }
    }
}

/// Two schemas are the server's own, and stay as they are.
fn mandatory_schema(name: &str) -> Value {
    let all = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let resources = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
    let groups = |names: &[&str]| -> Value {
        names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
    };
    match name {
        "exempt" => json!({
            "matchingPrecedence": 1,
            "priorityLevelConfiguration": {"name": "exempt"},
            "rules": [{"subjects": groups(&["system:masters"]), "resourceRules": resources, "nonResourceRules": all}],
        }),
        _ => json!({
            "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "priorityLevelConfiguration": {"name": "catch-all"},
            "rules": [{"subjects": groups(&["system:unauthenticated", "system:authenticated"]),
                "resourceRules": resources, "nonResourceRules": all}],
        }),
    }
}

fn subject(subject: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = text(&subject["kind"]);
    let kinds = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let Some((_, field)) = kinds.into_iter().find(|(known, _)| *known == kind) else {
        errors.not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    for (_, other) in kinds {
        if other != field && given(&subject[other]) {
            errors.forbidden(
                &path.child(other),
                format!("{other} is forbidden when subject kind is not '{}'", kind_of(other)),
            );
        }
    }
    let path = path.child(field);
    let who = &subject[field];
    if !given(who) {
        errors.required(&path, format!("{field} is required when subject kind is '{kind}'"));
        return;
    }
    if text(&who["name"]).is_empty() {
        errors.required(&path.child("name"), "");
    }
    if kind == "ServiceAccount" {
        let (name, namespace) = (&who["name"], &who["namespace"]);
        if !matches!(text(name), "" | "*") {
            invalid_if(names::dns1123_subdomain(text(name)), name, &path.child("name"), errors);
        }
        if text(namespace).is_empty() {
            errors.required(&path.child("namespace"), "must specify namespace for service account");
        } else {
            invalid_if(names::dns1123_label(text(namespace)), namespace, &path.child("namespace"), errors);
        }
    }
}

fn kind_of(field: &str) -> &'static str {
    match field {
        "group" => "Group",
        "serviceAccount" => "ServiceAccount",
        _ => "User",
    }
}

fn verbs(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("verbs");
    let list = items(&rule["verbs"]);
    if list.is_empty() {
        errors.required(&path, "verbs must contain at least one value");
    } else if list.len() > 1 && list.iter().any(|verb| text(verb) == "*") {
        let why = "if '*' is present, must not specify other verbs";
        errors.invalid(&path, rule["verbs"].clone(), why);
    } else if let Some(bad) = list.iter().find(|verb| text(verb) != "*" && !VERBS.contains(&text(verb))) {
        // Verbs of paths that are no resources are HTTP's.
        if !given(&rule["nonResourceURLs"]) {
            errors.not_supported(&path, bad.clone(), &VERBS);
        }
    }
}

fn resource_rule(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    verbs(rule, path, errors);
    for (field, what) in [("apiGroups", "api group"), ("resources", "resource")] {
        let list = items(&rule[field]);
        if list.is_empty() {
            errors.required(&path.child(field), format!("resource rules must supply at least one {what}"));
        } else if list.len() > 1 && list.iter().any(|item| text(item) == "*") {
            let why = format!("if '*' is present, must not specify other {what}s");
            errors.invalid(&path.child(field), rule[field].clone(), why);
        }
    }
    let namespaces = items(&rule["namespaces"]);
    if namespaces.is_empty() && rule["clusterScope"] != Value::Bool(true) {
        errors.required(
            &path.child("namespaces"),
            "resource rules that are not cluster scoped must supply at least one namespace",
        );
    } else if namespaces.len() > 1 && namespaces.iter().any(|name| text(name) == "*") {
        let why = "if '*' is present, must not specify other namespaces";
        errors.invalid(&path.child("namespaces"), rule["namespaces"].clone(), why);
    }
}

fn non_resource_rule(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    verbs(rule, path, errors);
    let list = items(&rule["nonResourceURLs"]);
    let path = path.child("nonResourceURLs");
    if list.is_empty() {
        errors.required(&path, "nonResourceURLs must contain at least one value");
    } else if list.len() > 1 && list.iter().any(|url| text(url) == "*") {
        let why = "if '*' is present, must not specify other non-resource URLs";
        errors.invalid(&path, rule["nonResourceURLs"].clone(), why);
    }
    for (i, url) in list.iter().enumerate() {
        let url = text(url);
        let path = path.index(i);
        if url == "*" {
            continue;
        }
        if url.is_empty() {
            errors.invalid(&path, url, "nonResourceURL must not be empty");
        } else if !url.starts_with('/') {
            errors.invalid(&path, url, "must start with slash");
        } else if url.contains(' ') {
            errors.invalid(&path, url, "must not contain white-space");
        } else if url != "/" && url.contains("//") {
            errors.invalid(&path, url, "must not contain double slash");
        } else if url.contains('*') && !(url.ends_with("/*") && url.matches('*').count() == 1) {
            errors.invalid(&path, url, "wildcard can only do suffix matching");
        }
    }
}

pub fn priority_level(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let name = text(&object["metadata"]["name"]);
    let kind = text(&spec["type"]);
    if name == "exempt" && kind != "Exempt" {
        errors.invalid(&SPEC.child("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    if name != "exempt" && kind == "Exempt" {
        errors.invalid(&SPEC.child("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind {
        "Exempt" => {
            if given(&spec["limited"]) {
                errors.forbidden(&SPEC.child("limited"), "must be nil if the type is not Limited");
            }
            shares(&spec["exempt"], &SPEC.child("exempt"), errors);
        }
        "Limited" => {
            if given(&spec["exempt"]) {
                errors.forbidden(&SPEC.child("exempt"), "must be nil if the type is Limited");
            }
            if given(&spec["limited"]) {
                limited(&spec["limited"], &SPEC.child("limited"), errors);
            } else {
                errors.required(&SPEC.child("limited"), "must not be empty when type is Limited");
            }
        }
        "" => errors.required(&SPEC.child("type"), ""),
        other => errors.not_supported(&SPEC.child("type"), other, &["Exempt", "Limited"]),
    }
}

fn shares(level: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    not_negative(&level["nominalConcurrencyShares"], &path.child("nominalConcurrencyShares"), errors);
    in_range(&level["lendablePercent"], 0, 100, &path.child("lendablePercent"), errors);
    not_negative(&level["borrowingLimitPercent"], &path.child("borrowingLimitPercent"), errors);
}

fn limited(level: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    shares(level, path, errors);
    let response = &level["limitResponse"];
    let path = path.child("limitResponse");
    let queuing = &response["queuing"];
    match text(&response["type"]) {
        "Reject" if given(queuing) => {
            errors.forbidden(
                &path.child("queuing"),
                "must be nil if limited.limitResponse.type is not Limited",
            );
        }
        "Reject" => {}
        "Queue" if !given(queuing) => {
            errors.required(
                &path.child("queuing"),
                "must not be empty if limited.limitResponse.type is Limited",
            );
        }
        "Queue" => queues(queuing, &path.child("queuing"), errors),
        "" => errors.required(&path.child("type"), ""),
        other => errors.not_supported(&path.child("type"), other, &["Queue", "Reject"]),
    }
}

fn queues(queuing: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let number = |field: &str| queuing[field].as_i64().unwrap_or(0);
    for field in ["queueLengthLimit", "queues", "handSize"] {
        if number(field) <= 0 {
            required(&Value::Null, &path.child(field), errors);
        }
    }
    if number("queues") > 10_000_000 {
        let why = "must not be greater than 10000000";
        errors.invalid(&path.child("queues"), number("queues"), why);
    }
    if number("handSize") > number("queues") {
        let why = format!("should not be greater than queues ({})", number("queues"));
        errors.invalid(&path.child("handSize"), number("handSize"), why);
    }
    // How many ways there are to deal a hand has to fit in 60 bits.
    let ways: f64 =
        (0..number("handSize").min(64)).map(|i| ((number("queues") - i).max(1) as f64).log2()).sum();
    if ways > 60.0 {
        let why = format!(
            "required entropy bits of deckSize {} and handSize {} should not be greater than 60",
            number("queues"),
            number("handSize")
        );
        errors.invalid(&path.child("handSize"), number("handSize"), why);
    }
}
