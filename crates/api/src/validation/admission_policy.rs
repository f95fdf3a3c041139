//! Admission policies and their bindings. Their expressions are for those to check who can compile them.

use super::admission::{conditions, rules};
use super::names;
use super::read::{given, is_empty, items, one_of, text};
use super::selector::label_selector;
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const MAX_ANNOTATIONS: usize = 20;

pub fn validating(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    common(spec, &path, errors);
    let (validations, annotations) = (items(&spec["validations"]), items(&spec["auditAnnotations"]));
    if validations.is_empty() && annotations.is_empty() {
        const WHY: &str = "validations or auditAnnotations must be non-empty";
        errors.required(&path.child("validations"), WHY);
        errors.required(&path.child("auditAnnotations"), WHY);
    }
    let list = path.child("validations");
    for (i, validation) in validations.iter().enumerate() {
        let path = list.index(i);
        expression(&validation["expression"], &path.child("expression"), errors);
        let message = text(&validation["message"]);
        if given(&validation["message"]) && message.trim().is_empty() {
            errors.invalid(&path.child("message"), message, "message must be non-empty if specified");
        } else if message.trim().contains('\n') {
            errors.invalid(&path.child("message"), message, "message must not contain line breaks");
        }
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
        one_of(&validation["reason"], &reasons, &path.child("reason"), errors);
    }
    let list = path.child("auditAnnotations");
    if annotations.len() > MAX_ANNOTATIONS {
        errors.too_many(&list, annotations.len(), MAX_ANNOTATIONS);
    }
    let mut seen = HashSet::new();
    for (i, annotation) in annotations.iter().enumerate() {
        let path = list.index(i);
        let key = text(&annotation["key"]);
        named(key, &path.child("key"), &mut seen, errors);
        expression(&annotation["valueExpression"], &path.child("valueExpression"), errors);
    }
}

pub fn mutating(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    common(spec, &path, errors);
    required_one_of(
        &spec["reinvocationPolicy"],
        &["IfNeeded", "Never"],
        &path.child("reinvocationPolicy"),
        errors,
    );
    let list = path.child("mutations");
    if items(&spec["mutations"]).is_empty() {
        errors.required(&list, "mutations must contain at least one item");
    }
    for (i, mutation) in items(&spec["mutations"]).iter().enumerate() {
        let path = list.index(i);
        let kind = path.child("patchType");
        required_one_of(&mutation["patchType"], &["ApplyConfiguration", "JSONPatch"], &kind, errors);
        let (wanted, other) = match text(&mutation["patchType"]) {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            _ => continue,
        };
        if given(&mutation[other]) {
            errors.invalid(
                &path.child(other),
                "",
                format!("must not be specified when patchType is {}", text(&mutation["patchType"])),
            );
        }
        match given(&mutation[wanted]) {
            true => {
                expression(&mutation[wanted]["expression"], &path.child(wanted).child("expression"), errors)
            }
            false => errors.required(
                &path.child(wanted),
                format!("must be specified when patchType is {}", text(&mutation["patchType"])),
            ),
        }
    }
}

fn common(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    required_one_of(&spec["failurePolicy"], &["Fail", "Ignore"], &path.child("failurePolicy"), errors);
    let kind = &spec["paramKind"];
    if given(kind) {
        let path = path.child("paramKind");
        for field in ["apiVersion", "kind"] {
            if is_empty(&kind[field]) {
                errors.required(&path.child(field), "");
            }
        }
        if text(&kind["apiVersion"]).matches('/').count() > 1 {
            errors.invalid(
                &path.child("apiVersion"),
                text(&kind["apiVersion"]),
                "must be of the form group/version",
            );
        }
    }
    let constraints = path.child("matchConstraints");
    match given(&spec["matchConstraints"]) {
        true => {
            match_resources(&spec["matchConstraints"], &constraints, errors);
            if items(&spec["matchConstraints"]["resourceRules"]).is_empty() {
                errors.required(&constraints.child("resourceRules"), "");
            }
        }
        false => errors.required(&constraints, ""),
    }
    conditions(&spec["matchConditions"], &path.child("matchConditions"), errors);
    let list = path.child("variables");
    let mut seen = HashSet::new();
    for (i, variable) in items(&spec["variables"]).iter().enumerate() {
        let path = list.index(i);
        let name = text(&variable["name"]);
        let path_of_name = path.child("name");
        if name.is_empty() {
            errors.required(&path_of_name, "");
        } else if !is_identifier(name) {
            errors.invalid(&path_of_name, name, "name is not a valid CEL identifier");
        } else if !seen.insert(name) {
            errors.duplicate(&path_of_name, name);
        }
        expression(&variable["expression"], &path.child("expression"), errors);
    }
}

pub fn validating_binding(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    binding(spec, &path, errors);
    let list = path.child("validationActions");
    let actions = items(&spec["validationActions"]);
    if actions.is_empty() {
        errors.required(&list, "at least one validation action is required");
    }
    let mut seen = HashSet::new();
    for (i, action) in actions.iter().enumerate() {
        one_of(action, &["Audit", "Deny", "Warn"], &list.index(i), errors);
        if !seen.insert(text(action)) {
            errors.duplicate(&list.index(i), text(action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        const WHY: &str = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.invalid(&list, spec["validationActions"].clone(), WHY);
    }
}

pub fn mutating_binding(object: &Value, errors: &mut FieldErrors) {
    binding(&object["spec"], &Path::new("spec"), errors);
}

fn binding(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (name, place) = (text(&spec["policyName"]), path.child("policyName"));
    match names::dns1123_subdomain(name) {
        _ if name.is_empty() => errors.required(&place, ""),
        Some(problem) => errors.invalid(&place, name, problem),
        None => {}
    }
    if given(&spec["matchResources"]) {
        match_resources(&spec["matchResources"], &path.child("matchResources"), errors);
    }
    let reference = &spec["paramRef"];
    if !given(reference) {
        return;
    }
    let path = path.child("paramRef");
    match (is_empty(&reference["name"]), given(&reference["selector"])) {
        (true, false) => errors.required(&path, "one of name or selector must be specified"),
        (false, true) => {
            errors.forbidden(&path.child("name"), "name and selector are mutually exclusive");
        }
        (false, false) => {
            if let Some(problem) = names::path_segment(text(&reference["name"])) {
                errors.invalid(&path.child("name"), text(&reference["name"]), problem);
            }
        }
        (true, true) => label_selector(&reference["selector"], &path.child("selector"), errors),
    }
    let action = path.child("parameterNotFoundAction");
    required_one_of(&reference["parameterNotFoundAction"], &["Allow", "Deny"], &action, errors);
}

fn match_resources(resources: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    required_one_of(&resources["matchPolicy"], &["Equivalent", "Exact"], &path.child("matchPolicy"), errors);
    for selector in ["namespaceSelector", "objectSelector"] {
        label_selector(&resources[selector], &path.child(selector), errors);
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        rules(&resources[list], &path.child(list), errors);
    }
}

fn named<'v>(name: &'v str, path: &Path<'_>, seen: &mut HashSet<&'v str>, errors: &mut FieldErrors) {
    match names::qualified_name(name) {
        _ if name.is_empty() => errors.required(path, ""),
        Some(problem) => errors.invalid(path, name, problem),
        None if !seen.insert(name) => errors.duplicate(path, name),
        None => {}
    }
}

fn expression(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if text(value).trim().is_empty() {
        errors.required(path, "expression is not specified");
    }
}

fn required_one_of(value: &Value, allowed: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    if is_empty(value) {
        errors.required(path, "");
    } else {
        one_of(value, allowed, path, errors);
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        && name.bytes().all(|c| c == b'_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(validate: fn(&Value, &mut FieldErrors), spec: Value, expected: &[&str]) {
        let mut errors = FieldErrors::new();
        validate(&json!({"spec": spec}), &mut errors);
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, part) in told.iter().zip(expected) {
            assert!(told.starts_with(part), "{told} is not {part}");
        }
    }

    fn constraints() -> Value {
        json!({"matchPolicy": "Equivalent", "resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"],
            "apiVersions": ["v1"], "resources": ["deployments"], "scope": "*"}]})
    }

    #[test]
    fn policies() {
        check(
            validating,
            json!({"failurePolicy": "Fail", "matchConstraints": constraints(), "variables": [{"name": "a", "expression": "1"}],
                "validations": [{"expression": "true", "reason": "Forbidden"}]}),
            &[],
        );
        check(
            validating,
            json!({"failurePolicy": "Maybe", "paramKind": {"kind": "X"}, "matchConditions": [{"name": "", "expression": "x"}],
                "variables": [{"name": "a-b", "expression": " "}],
                "validations": [{"message": "a\nb", "reason": "Because"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "'x'"}, {"key": "k", "valueExpression": "'x'"}]}),
            &[
                "spec.failurePolicy: Unsupported value",
                "spec.paramKind.apiVersion: Required",
                "spec.matchConstraints: Required",
                "spec.matchConditions[0].name: Required",
                "spec.variables[0].name: Invalid value: \"a-b\": name is not a valid CEL identifier",
                "spec.variables[0].expression: Required",
                "spec.validations[0].expression: Required",
                "spec.validations[0].message: Invalid",
                "spec.validations[0].reason: Unsupported",
                "spec.auditAnnotations[1].key: Duplicate",
            ],
        );
        check(
            validating,
            json!({"failurePolicy": "Fail", "matchConstraints": {"matchPolicy": "Exact"}}),
            &[
                "spec.matchConstraints.resourceRules: Required",
                "spec.validations: Required",
                "spec.auditAnnotations: Required",
            ],
        );
        check(
            mutating,
            json!({"failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": constraints(),
                "mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}}, {}]}),
            &[
                "spec.mutations[0].applyConfiguration: Invalid",
                "spec.mutations[0].jsonPatch: Required",
                "spec.mutations[1].patchType: Required",
            ],
        );
    }

    #[test]
    fn bindings() {
        check(validating_binding, json!({"policyName": "p", "validationActions": ["Deny", "Audit"]}), &[]);
        check(
            validating_binding,
            json!({"validationActions": ["Deny", "Warn", "Deny", "Shout"],
                "paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "Cry"}}),
            &[
                "spec.policyName: Required",
                "spec.paramRef.name: Forbidden",
                "spec.paramRef.parameterNotFoundAction: Unsupported",
                "spec.validationActions[2]: Duplicate",
                "spec.validationActions[3]: Unsupported",
                "spec.validationActions: Invalid",
            ],
        );
        check(
            mutating_binding,
            json!({"policyName": "p", "paramRef": {"parameterNotFoundAction": "Deny"}}),
            &["spec.paramRef: Required"],
        );
    }
}
