//! HorizontalPodAutoscalers: bounds, metrics and how fast to follow them.

use super::names;
use super::read::{given, invalid_if, is_empty, items, one_of, quantity, text};
use super::selector::label_selector;
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");
/// The types of metrics and the fields that hold them.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// A new one, whose references have to lead somewhere.
pub fn create(object: &Value, errors: &mut FieldErrors) {
    autoscaler(object, errors);
    versions(object, &Value::Null, errors);
}

/// References that were good enough before still are.
pub fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    versions(new, old, errors);
}

fn versions(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (target, path) = (&new["spec"]["scaleTargetRef"], SPEC.child("scaleTargetRef"));
    if *target != old["spec"]["scaleTargetRef"] {
        // Of what has no group, one kind can be scaled.
        version(target, text(&target["kind"]) == "ReplicationController", &path, errors);
    }
    let (metrics, before) = (SPEC.child("metrics"), items(&old["spec"]["metrics"]));
    for (i, metric) in items(&new["spec"]["metrics"]).iter().enumerate() {
        let described = &metric["object"]["describedObject"];
        if given(described) && !before.contains(metric) {
            let path = metrics.index(i);
            let path = path.child("object");
            version(described, true, &path.child("describedObject"), errors);
        }
    }
}

fn version(reference: &Value, core: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let version = text(&reference["apiVersion"]);
    let path = path.child("apiVersion");
    if version.matches('/').count() > 1 {
        errors.invalid(&path, version, format!("unexpected GroupVersion string: {version}"));
    } else if !core && !version.contains('/') {
        errors.invalid(&path, version, "apiVersion must specify API group");
    }
}

pub fn autoscaler(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let (min, max) = (spec["minReplicas"].as_i64(), spec["maxReplicas"].as_i64().unwrap_or_default());
    if min.is_some_and(|n| n < 1) {
        errors.invalid(
            &SPEC.child("minReplicas"),
            spec["minReplicas"].clone(),
            "must be greater than or equal to 1",
        );
    }
    if max < 1 {
        errors.invalid(&SPEC.child("maxReplicas"), max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        errors.invalid(&SPEC.child("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
    }
    reference(&spec["scaleTargetRef"], &SPEC.child("scaleTargetRef"), errors);
    if spec["targetCPUUtilizationPercentage"].as_i64().is_some_and(|n| n < 1) {
        let value = spec["targetCPUUtilizationPercentage"].clone();
        errors.invalid(&SPEC.child("targetCPUUtilizationPercentage"), value, "must be greater than 0");
    }
    let metrics = SPEC.child("metrics");
    for (i, one) in items(&spec["metrics"]).iter().enumerate() {
        metric(one, &metrics.index(i), errors);
    }
    let behavior = SPEC.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if given(&spec["behavior"][direction]) {
            rules(&spec["behavior"][direction], &behavior.child(direction), errors);
        }
    }
}

fn reference(target: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["kind", "name"] {
        if text(&target[field]).is_empty() {
            errors.required(&path.child(field), "");
        } else {
            invalid_if(names::path_segment(text(&target[field])), &target[field], &path.child(field), errors);
        }
    }
}

fn metric(metric: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = text(&metric["type"]);
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
        return;
    }
    let Some((_, field)) = SOURCES.into_iter().find(|(known, _)| *known == kind) else {
        errors.not_supported(&path.child("type"), kind, &SOURCES.map(|(known, _)| known));
        return;
    };
    for (_, other) in SOURCES {
        if other != field && given(&metric[other]) {
            errors.forbidden(&path.child(other), "must populate the given metric source only");
        }
    }
    let source = &metric[field];
    let path = path.child(field);
    if !given(source) {
        errors.required(&path, "must populate information for the given metric source");
        return;
    }
    let wanted = &source["target"];
    let target_path = path.child("target");
    target(wanted, &target_path, errors);
    match kind {
        "Resource" | "ContainerResource" => {
            if text(&source["name"]).is_empty() {
                errors.required(&path.child("name"), "must specify a resource name");
            }
            if kind == "ContainerResource" && text(&source["container"]).is_empty() {
                errors.required(&path.child("container"), "must specify a container");
            }
            let utilization = target_path.child("averageUtilization");
            match (given(&wanted["averageUtilization"]), given(&wanted["averageValue"])) {
                (false, false) => {
                    errors
                        .required(&utilization, "must set either a target raw value or a target utilization");
                }
                (true, true) => errors.forbidden(
                    &target_path.child("averageValue"),
                    "may not set both a target raw value and a target utilization",
                ),
                _ => {}
            }
        }
        "Pods" => {
            identifier(&source["metric"], &path.child("metric"), errors);
            if !given(&wanted["averageValue"]) {
                let why = "must specify a positive target averageValue";
                errors.required(&target_path.child("averageValue"), why);
            }
        }
        _ => {
            if kind == "Object" {
                reference(&source["describedObject"], &path.child("describedObject"), errors);
            }
            identifier(&source["metric"], &path.child("metric"), errors);
            match (given(&wanted["value"]), given(&wanted["averageValue"])) {
                (false, false) => errors.required(
                    &target_path.child("averageValue"),
                    "must set either a target value for metric or a per-pod target",
                ),
                (true, true) if kind == "External" => errors.forbidden(
                    &target_path.child("value"),
                    "may not set both a target value for metric and a per-pod target",
                ),
                _ => {}
            }
        }
    }
}

fn identifier(metric: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = &metric["name"];
    if text(name).is_empty() {
        errors.required(&path.child("name"), "must specify a metric name");
    } else {
        invalid_if(names::path_segment(text(name)), name, &path.child("name"), errors);
    }
    if !is_empty(&metric["selector"]) {
        label_selector(&metric["selector"], &path.child("selector"), errors);
    }
}

fn target(target: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(&target["type"]) {
        "" => errors.required(&path.child("type"), "must specify a metric target type"),
        "Utilization" | "Value" | "AverageValue" => {}
        other => {
            errors.invalid(&path.child("type"), other, "must be either Utilization, Value, or AverageValue")
        }
    }
    for field in ["value", "averageValue"] {
        if given(&target[field])
            && let Some(amount) = quantity(&target[field], &path.child(field), errors)
            && amount.is_zero()
        {
            errors.invalid(&path.child(field), target[field].clone(), "must be positive");
        }
    }
    if target["averageUtilization"].as_i64().is_some_and(|n| n < 1) {
        let value = target["averageUtilization"].clone();
        errors.invalid(&path.child("averageUtilization"), value, "must be greater than 0");
    }
}

fn rules(rules: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let window = &rules["stabilizationWindowSeconds"];
    let window_path = path.child("stabilizationWindowSeconds");
    match window.as_i64() {
        Some(n) if n < 0 => errors.invalid(&window_path, n, "must be greater than or equal to zero"),
        Some(n) if n > 3600 => errors.invalid(&window_path, n, "must be less than or equal to 3600"),
        _ => {}
    }
    one_of(&rules["selectPolicy"], &["Disabled", "Max", "Min"], &path.child("selectPolicy"), errors);
    let list = path.child("policies");
    if is_empty(&rules["policies"]) && text(&rules["selectPolicy"]) != "Disabled" {
        errors.required(&list, "must specify at least one Policy");
    }
    for (i, policy) in items(&rules["policies"]).iter().enumerate() {
        let path = list.index(i);
        if !matches!(text(&policy["type"]), "Pods" | "Percent") {
            errors.not_supported(&path.child("type"), text(&policy["type"]), &["Percent", "Pods"]);
        }
        if policy["value"].as_i64().unwrap_or(0) <= 0 {
            let value = policy["value"].as_i64().unwrap_or(0);
            errors.invalid(&path.child("value"), value, "must be greater than zero");
        }
        match policy["periodSeconds"].as_i64().unwrap_or(0) {
            n if n <= 0 => errors.invalid(&path.child("periodSeconds"), n, "must be greater than zero"),
            n if n > 1800 => {
                errors.invalid(&path.child("periodSeconds"), n, "must be less than or equal to 1800");
            }
            _ => {}
        }
    }
    if given(&rules["tolerance"]) {
        quantity(&rules["tolerance"], &path.child("tolerance"), errors);
    }
}
