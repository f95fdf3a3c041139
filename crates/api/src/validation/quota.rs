//! Resource quotas and limit ranges: how much there may be in a namespace.

use super::read::{given, is_empty, items, members, text};
use super::{names, resources};
use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use serde_json::Value;
use std::collections::HashSet;

const SPEC: Path<'static> = Path::new("spec");

pub fn resource_quota(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    resources::amounts(&spec["hard"], &SPEC.child("hard"), errors);
    let hard = SPEC.child("hard");
    for (name, amount) in members(&spec["hard"]) {
        let counted = OBJECTS.iter().any(|known| known == name) && name != "requests.storage";
        if counted && Quantity::from_value(amount).is_ok_and(|amount| !amount.is_integer()) {
            errors.invalid(&hard.key(name), amount.clone(), "must be an integer");
        }
        let known = COMPUTE.iter().chain(&OBJECTS).any(|known| known == name);
        if !name.contains('/') && !known && !name.contains("hugepages-") {
            resources::standard(name, &hard.key(name), errors);
            errors.invalid(&hard.key(name), name.as_str(), "must be a standard resource for quota");
        }
    }
    scope_selector(&spec["scopeSelector"], errors);
    scopes(spec, errors);
}

/// Scopes and what they can be counted with.
fn scopes(spec: &Value, errors: &mut FieldErrors) {
    let path = SPEC.child("scopes");
    let all = &spec["scopes"];
    let given: HashSet<&str> = items(all).iter().map(text).collect();
    for scope in &given {
        if !SCOPES.contains(scope) {
            errors.invalid(&path, all.clone(), "unsupported scope");
        } else if members(&spec["hard"]).any(|(name, _)| !counts_within(scope, name)) {
            errors.invalid(&path, all.clone(), "unsupported scope applied to resource");
        }
    }
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if given.contains(one) && given.contains(other) {
            errors.invalid(&path, all.clone(), "conflicting scopes");
        }
    }
}

/// Whether a scope says anything about a resource: those of pods only about what pods have.
fn counts_within(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => matches!(resource, "pods" | "count/pods"),
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "count/persistentvolumeclaims" | "requests.storage")
                || resource.contains(".storageclass.storage.k8s.io/")
        }
        _ => {
            matches!(resource, "pods" | "count/pods")
                || COMPUTE.contains(&resource)
                || resource.contains("hugepages-")
                || resource.starts_with("requests.") && resource.contains('/')
        }
    }
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// What pods have of it can be counted.
pub const COMPUTE: [&str; 9] = [
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// What else can be counted without a vendor's prefix.
pub const OBJECTS: [&str; 10] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

fn scope_selector(selector: &Value, errors: &mut FieldErrors) {
    let path = SPEC.child("scopeSelector");
    let path = path.child("matchExpressions");
    for (i, expression) in items(&selector["matchExpressions"]).iter().enumerate() {
        let path = path.index(i);
        let (scope, operator) = (text(&expression["scopeName"]), text(&expression["operator"]));
        let values = items(&expression["values"]);
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        let yes_or_no = !matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if yes_or_no && operator != "Exists" {
            let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&path.child("operator"), operator, why);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), expression["values"].clone(), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
    }
}

/// What a quota counts stays: only how much of it there is changes.
pub fn resource_quota_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let scopes = |quota: &Value| -> HashSet<String> {
        items(&quota["spec"]["scopes"]).iter().map(|scope| text(scope).to_owned()).collect()
    };
    if scopes(new) != scopes(old) {
        errors.invalid(&SPEC.child("scopes"), new["spec"]["scopes"].clone(), super::read::IMMUTABLE);
    }
}

/// Bounds of these are checked; others are for whoever wrote them, with a name of his own.
const BOUNDED: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];

/// (lower, upper): no amount of the first list may exceed that of the second; how the two are called, which list is
/// blamed, and whether the lower amount is the one that is shown.
type Order = (&'static str, &'static str, [&'static str; 2], &'static str, bool);

const ORDERS: [Order; 6] = [
    ("min", "max", ["min", "max"], "min", true),
    ("min", "defaultRequest", ["min", "default request"], "defaultRequest", false),
    ("defaultRequest", "max", ["default request", "max"], "defaultRequest", true),
    ("defaultRequest", "default", ["default request", "default limit"], "defaultRequest", true),
    ("min", "default", ["min", "default"], "default", true),
    ("default", "max", ["default", "max"], "max", true),
];

pub fn limit_range(object: &Value, errors: &mut FieldErrors) {
    let list = SPEC.child("limits");
    let mut kinds = HashSet::new();
    for (i, item) in items(&object["spec"]["limits"]).iter().enumerate() {
        let path = list.index(i);
        let kind = text(&item["type"]);
        if let Some(problem) = names::qualified_name(kind) {
            errors.invalid(&path.child("type"), kind, problem);
        }
        if !kind.contains('/') && !BOUNDED.contains(&kind) {
            let why = "must be a standard limit type or fully qualified";
            errors.invalid(&path.child("type"), kind, why);
        }
        if !kinds.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        let of_containers = matches!(kind, "Pod" | "Container");
        for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if kind == "Pod" && field.starts_with("default") {
                if !is_empty(&item[field]) {
                    errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
                }
                continue;
            }
            resources::bounds(&item[field], of_containers, &path.child(field), errors);
        }
        if kind == "PersistentVolumeClaim"
            && !given(&item["min"]["storage"])
            && !given(&item["max"]["storage"])
        {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errors.required(&path, why);
        }
        ordered(item, &path, errors);
        ratios(item, &path, errors);
    }
}

fn ordered(item: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let amount = |list: &str, name: &str| Quantity::from_value(&item[list][name]).ok();
    for (lower, upper, [low_words, high_words], blamed, shows_lower) in ORDERS {
        for (name, _) in members(&item[lower]) {
            if let (Some(low), Some(high)) = (amount(lower, name), amount(upper, name))
                && low > high
            {
                let why = format!("{low_words} value {low} is greater than {high_words} value {high}");
                let shown = if shows_lower { low } else { high };
                errors.invalid(&path.child(blamed).key(name), shown.to_string(), why);
            }
        }
    }
    for (name, _) in members(&item["default"]).filter(|(name, _)| !resources::overcommittable(name)) {
        if let (Some(limit), Some(request)) = (amount("default", name), amount("defaultRequest", name))
            && limit != request
        {
            let why = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
            errors.invalid(&path.child("defaultRequest").key(name), request.to_string(), why);
        }
    }
}

/// How far limits may exceed requests: not below them, and not further than the bounds allow.
fn ratios(item: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let amount = |list: &str, name: &str| Quantity::from_value(&item[list][name]).ok();
    let path = path.child("maxLimitRequestRatio");
    for (name, value) in members(&item["maxLimitRequestRatio"]) {
        let Ok(ratio) = Quantity::from_value(value) else { continue };
        if ratio < Quantity::units(1) {
            errors.invalid(&path.key(name), ratio.to_string(), format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (amount("min", name), amount("max", name))
            && !min.is_zero()
            && ratio.as_f64() > max.as_f64() / min.as_f64()
        {
            let why = format!("ratio {ratio} is greater than max/min = {:.6}", max.as_f64() / min.as_f64());
            errors.invalid(&path.key(name), ratio.to_string(), why);
        }
    }
}
