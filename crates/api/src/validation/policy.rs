//! Disruption budgets and autoscalers.

use super::read::{
    at_most_all, count_or_percent, given, in_range, items, not_negative, one_of, required, text,
};
use super::selector::label_selector;
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");

pub fn disruption_budget(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    if given(&spec["minAvailable"]) && given(&spec["maxUnavailable"]) {
        errors.invalid(&SPEC, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        count_or_percent(&spec[field], &SPEC.child(field), errors);
        at_most_all(&spec[field], &SPEC.child(field), errors);
    }
    label_selector(&spec["selector"], &SPEC.child("selector"), errors);
    one_of(
        &spec["unhealthyPodEvictionPolicy"],
        &["AlwaysAllow", "IfHealthyBudget"],
        &SPEC.child("unhealthyPodEvictionPolicy"),
        errors,
    );
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
    let target = SPEC.child("scaleTargetRef");
    for field in ["kind", "name"] {
        required(&spec["scaleTargetRef"][field], &target.child(field), errors);
    }
    let metrics = SPEC.child("metrics");
    for (i, metric) in items(&spec["metrics"]).iter().enumerate() {
        let path = metrics.index(i);
        if text(&metric["type"]).is_empty() {
            errors.required(&path.child("type"), "must specify a metric source type");
        } else {
            let types = ["ContainerResource", "External", "Object", "Pods", "Resource"];
            one_of(&metric["type"], &types, &path.child("type"), errors);
        }
    }
    let behavior = SPEC.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &spec["behavior"][direction];
        let path = behavior.child(direction);
        in_range(
            &rules["stabilizationWindowSeconds"],
            0,
            3600,
            &path.child("stabilizationWindowSeconds"),
            errors,
        );
        one_of(&rules["selectPolicy"], &["Disabled", "Max", "Min"], &path.child("selectPolicy"), errors);
        let policies = path.child("policies");
        for (i, policy) in items(&rules["policies"]).iter().enumerate() {
            let path = policies.index(i);
            one_of(&policy["type"], &["Percent", "Pods"], &path.child("type"), errors);
            not_negative(&policy["value"], &path.child("value"), errors);
            in_range(&policy["periodSeconds"], 1, 1800, &path.child("periodSeconds"), errors);
        }
    }
}
