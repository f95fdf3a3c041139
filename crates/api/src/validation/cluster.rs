//! Namespaces, nodes, priority classes, leases, runtime classes.

use super::names;
use super::read::{given, invalid_if, is_empty, items, not_negative, one_of, positive, same, text};
use super::{metadata, resources, scheduling};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");

pub fn namespace(object: &Value, errors: &mut FieldErrors) {
    let path = SPEC.child("finalizers");
    for (i, finalizer) in items(&object["spec"]["finalizers"]).iter().enumerate() {
        metadata::finalizer(finalizer, &path.index(i), errors);
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
    if list.len() > 2 {
        let why = "may specify no more than one CIDR for each IP family";
        errors.invalid(&cidrs, spec["podCIDRs"].clone(), why);
    }
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

pub fn priority_class(object: &Value, errors: &mut FieldErrors) {
    const HIGHEST: i64 = 1_000_000_000;
    let (name, value) = (text(&object["metadata"]["name"]), object["value"].as_i64());
    let built_in = match name {
        "system-cluster-critical" => Some(2_000_000_000),
        "system-node-critical" => Some(2_000_001_000),
        _ => None,
    };
    if name.starts_with("system-") && (built_in.is_none() || built_in != value) {
        let error = match built_in {
            Some(value) => format!("value of {name} PriorityClass must be {value}"),
            None => format!("{name} is not a known system priority class"),
        };
        let detail = format!(
            "priority class names with 'system-' prefix are reserved for system use only. error: {error}"
        );
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
    let policy = Path::new("preemptionPolicy");
    super::read::unchanged(&new["preemptionPolicy"], &old["preemptionPolicy"], &policy, errors);
    if !same(&new["value"], &old["value"]) {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
}

pub fn lease(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    positive(&spec["leaseDurationSeconds"], &SPEC.child("leaseDurationSeconds"), errors);
    not_negative(&spec["leaseTransitions"], &SPEC.child("leaseTransitions"), errors);
    // An empty holder is one who has given the lease up.
    if given(&spec["strategy"]) && is_empty(&spec["strategy"]) {
        errors.invalid(&SPEC.child("strategy"), spec["strategy"].clone(), "must not be empty");
    }
    if given(&spec["preferredHolder"]) && is_empty(&spec["strategy"]) {
        let why = "may only be specified if `strategy` is defined";
        errors.invalid(&SPEC.child("preferredHolder"), spec["preferredHolder"].clone(), why);
    }
}

pub fn runtime_class(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("handler");
    invalid_if(names::dns1123_label(text(&object["handler"])), &object["handler"], &path, errors);
    let overhead = Path::new("overhead");
    resources::amounts(&object["overhead"]["podFixed"], &overhead.child("podFixed"), errors);
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
