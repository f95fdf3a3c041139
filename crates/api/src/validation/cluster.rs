//! Namespaces, nodes, quotas, limit ranges, priority classes, leases.

use super::names;
use super::read::{invalid_if, is_empty, items, members, not_negative, one_of, positive, same, text};
use super::{metadata, resources, scheduling};
use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");

pub fn namespace(object: &Value, errors: &mut FieldErrors) {
    let path = SPEC.child("finalizers");
    for finalizer in items(&object["spec"]["finalizers"]) {
        metadata::finalizer(finalizer, true, &path, errors);
    }
}

pub fn node(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    scheduling::taints(&spec["taints"], &SPEC.child("taints"), errors);
    let cidrs = SPEC.child("podCIDRs");
    for (i, cidr) in items(&spec["podCIDRs"]).iter().enumerate() {
        super::read::cidr(cidr, &cidrs.index(i), errors);
    }
    let list = items(&spec["podCIDRs"]);
    if let (Some(first), pod_cidr) = (list.first(), text(&spec["podCIDR"]))
        && !pod_cidr.is_empty()
        && text(first) != pod_cidr
    {
        let detail = "first podCIDRs value must match podCIDR";
        errors.invalid(&cidrs.index(0), first.clone(), detail);
    }
}

pub fn node_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    if !is_empty(&old["podCIDR"]) && !same(&new["podCIDRs"], &old["podCIDRs"]) {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.forbidden(&SPEC.child("podCIDRs"), detail);
    }
    if !is_empty(&old["providerID"]) && !same(&new["providerID"], &old["providerID"]) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&SPEC.child("providerID"), detail);
    }
}

pub fn resource_quota(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    resources::amounts(&spec["hard"], &SPEC.child("hard"), errors);
    let hard = SPEC.child("hard");
    for (name, _) in members(&spec["hard"]) {
        if !name.contains('/') && !QUOTA_RESOURCES.contains(&name.as_str()) && !name.contains("hugepages-") {
            errors.invalid(&hard.key(name), name.as_str(), "must be a standard resource for quota");
        }
    }
    scope_selector(&spec["scopeSelector"], errors);
    let scopes = SPEC.child("scopes");
    for scope in items(&spec["scopes"]) {
        let known = [
            "BestEffort",
            "CrossNamespacePodAffinity",
            "NotBestEffort",
            "NotTerminating",
            "PriorityClass",
            "Terminating",
            "VolumeAttributesClass",
        ];
        if !known.contains(&text(scope)) {
            errors.invalid(&scopes, spec["scopes"].clone(), "unsupported scope");
        }
    }
}

/// What can be counted without a vendor's prefix.
const QUOTA_RESOURCES: [&str; 19] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
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
    for field in ["scopes", "scopeSelector"] {
        super::read::unchanged(&new["spec"][field], &old["spec"][field], &SPEC.child(field), errors);
    }
}

pub fn limit_range(object: &Value, errors: &mut FieldErrors) {
    let list = SPEC.child("limits");
    for (i, item) in items(&object["spec"]["limits"]).iter().enumerate() {
        let path = list.index(i);
        for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            resources::amounts(&item[field], &path.child(field), errors);
        }
        let kind = text(&item["type"]);
        if kind.is_empty() {
            errors.required(&path.child("type"), "");
        }
        if kind == "Pod" {
            for field in ["default", "defaultRequest"] {
                if !is_empty(&item[field]) {
                    errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
                }
            }
        }
        // (lower, upper): each amount of the first must not exceed that of the second.
        for (lower, upper) in [
            ("min", "max"),
            ("min", "default"),
            ("default", "max"),
            ("defaultRequest", "default"),
            ("defaultRequest", "max"),
        ] {
            for (name, low) in members(&item[lower]) {
                let high = item[upper].get(name).and_then(|v| Quantity::from_value(v).ok());
                if let (Ok(low), Some(high)) = (Quantity::from_value(low), high)
                    && low > high
                {
                    let detail = format!("{lower} value {low} is greater than {upper} value {high}");
                    errors.invalid(&path.child(lower).key(name), low.to_string(), detail);
                }
            }
        }
    }
}

pub fn priority_class(object: &Value, errors: &mut FieldErrors) {
    const HIGHEST: i64 = 1_000_000_000;
    let (name, value) = (text(&object["metadata"]["name"]), object["value"].as_i64());
    let built_in = match name {
        "system-cluster-critical" => Some(2_000_000_000),
        "system-node-critical" => Some(2_000_001_000),
        _ => None,
    };
    if name.starts_with("system-") && (built_in.is_none() || built_in != value) {
        let detail = "priority class names with 'system-' prefix are reserved for system use only";
        errors.forbidden(&Path::new("metadata").child("name"), detail);
    } else if built_in.is_none() && value.is_some_and(|v| v > HIGHEST) {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.forbidden(&Path::new("value"), detail);
    }
    one_of(
        &object["preemptionPolicy"],
        &["Never", "PreemptLowerPriority"],
        &Path::new("preemptionPolicy"),
        errors,
    );
}

pub fn priority_class_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    for field in ["value", "preemptionPolicy"] {
        if !same(&new[field], &old[field]) {
            errors.forbidden(&Path::new(field), "may not be changed in an update.");
        }
    }
}

pub fn lease(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    positive(&spec["leaseDurationSeconds"], &SPEC.child("leaseDurationSeconds"), errors);
    not_negative(&spec["leaseTransitions"], &SPEC.child("leaseTransitions"), errors);
}

pub fn runtime_class(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("handler");
    invalid_if(names::dns1123_label(text(&object["handler"])), &object["handler"], &path, errors);
    let scheduling_path = Path::new("scheduling");
    metadata::labels(&object["scheduling"]["nodeSelector"], &scheduling_path.child("nodeSelector"), errors);
    scheduling::tolerations(
        &object["scheduling"]["tolerations"],
        &scheduling_path.child("tolerations"),
        errors,
    );
}

pub fn runtime_class_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    super::read::unchanged(&new["handler"], &old["handler"], &Path::new("handler"), errors);
}
