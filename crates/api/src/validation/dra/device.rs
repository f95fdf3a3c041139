//! One device that a driver publishes: its attributes, capacities and how these may be shared.

use super::{at_most, conditions, counters, one_node_term, qualified, set_of, taints};
use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use crate::validation::names;
use crate::validation::read::{given, invalid_if, is_empty, is_true, items, members, quantity, text};
use serde_json::Value;

const MAX_ATTRIBUTES: usize = 32;
const MAX_VALUE: usize = 64;
const MAX_VALID_VALUES: usize = 10;

/// `placed`: each device says for itself which nodes can use it.
pub fn device(device: &Value, placed: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let count = members(&device["attributes"]).count() + members(&device["capacity"]).count();
    if count > MAX_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        errors.invalid(path, count, why);
    }
    let list = path.child("attributes");
    for (name, attribute) in members(&device["attributes"]) {
        let path = list.key(name);
        qualified(name, false, &path, errors);
        self::attribute(attribute, &path, errors);
    }
    let shared = is_true(&device["allowMultipleAllocations"]);
    let list = path.child("capacity");
    for (name, capacity) in members(&device["capacity"]) {
        let path = list.key(name);
        qualified(name, false, &path, errors);
        self::capacity(capacity, shared, &path, errors);
    }
    taints::taints(&device["taints"], &path.child("taints"), errors);
    counters::consumed(&device["consumesCounters"], &path.child("consumesCounters"), errors);
    nodes(device, placed, path, errors);
    binding(device, path, errors);
}

fn attribute(attribute: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let set: Vec<&str> =
        ["bool", "int", "string", "version"].into_iter().filter(|kind| given(&attribute[*kind])).collect();
    let [kind] = set.as_slice() else {
        let why = "exactly one value must be specified";
        match set.is_empty() {
            true => errors.required(path, why),
            false => errors.invalid(path, attribute.clone(), why),
        }
        return;
    };
    let value = &attribute[*kind];
    let path = path.child(kind);
    if text(value).len() > MAX_VALUE {
        errors.too_long(&path, MAX_VALUE);
    }
    if *kind == "version" && semver::Version::parse(text(value)).is_err() {
        errors.invalid(&path, value.clone(), "must be a string compatible with semver.org spec 2.0.0");
    }
}

fn capacity(capacity: &Value, shared: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(whole) = quantity(&capacity["value"], &path.child("value"), errors) else {
        return;
    };
    let policy = &capacity["requestPolicy"];
    if !given(policy) {
        return;
    }
    let path = path.child("requestPolicy");
    if !shared {
        let why = "may only be specified when `allowMultipleAllocations` is true";
        errors.forbidden(&path, why);
    }
    self::policy(policy, whole, &path, errors);
}

fn policy(policy: &Value, whole: Quantity, path: &Path<'_>, errors: &mut FieldErrors) {
    let (values, range) = (&policy["validValues"], &policy["validRange"]);
    if !is_empty(values) && given(range) {
        let why = "at most one of `validValues` and `validRange` may be specified";
        errors.forbidden(path, why);
        return;
    }
    let at = path.child("default");
    let default = match given(&policy["default"]) {
        true => quantity(&policy["default"], &at, errors),
        false if is_empty(values) && !given(range) => None,
        false => {
            errors.required(&at, "required when `validValues` or `validRange` is defined");
            None
        }
    };
    if default.is_some_and(|default| default > whole) {
        errors.invalid(&at, policy["default"].clone(), "must not be larger than the capacity value");
    }
    if !is_empty(values) {
        valid_values(values, default, whole, path, errors);
    }
    if given(range) {
        valid_range(range, default, whole, path, errors);
    }
}

fn valid_values(
    values: &Value,
    default: Option<Quantity>,
    whole: Quantity,
    path: &Path<'_>,
    errors: &mut FieldErrors,
) {
    let list = path.child("validValues");
    at_most(values, MAX_VALID_VALUES, &list, errors);
    let mut last: Option<Quantity> = None;
    let mut found = false;
    for (i, value) in items(values).iter().enumerate() {
        let path = list.index(i);
        let Some(amount) = quantity(value, &path, errors) else {
            continue;
        };
        if amount > whole {
            errors.invalid(&path, value.clone(), "must not be larger than the capacity value");
        }
        if last.is_some_and(|last| last == amount) {
            errors.duplicate(&path, value.clone());
        } else if last.is_some_and(|last| last > amount) {
            errors.invalid(&path, value.clone(), "values must be sorted in ascending order");
        }
        found |= default.is_some_and(|default| default == amount);
        last = Some(amount);
    }
    if default.is_some() && !found {
        errors.invalid(&path.child("default"), values.clone(), "must be one of `validValues`");
    }
}

fn valid_range(
    range: &Value,
    default: Option<Quantity>,
    whole: Quantity,
    path: &Path<'_>,
    errors: &mut FieldErrors,
) {
    let at = path.child("validRange");
    let amount = |field: &str, errors: &mut FieldErrors| {
        let value = &range[field];
        let path = at.child(field);
        let amount = given(value).then(|| quantity(value, &path, errors)).flatten()?;
        if amount > whole {
            errors.invalid(&path, value.clone(), "must not be larger than the capacity value");
        }
        Some(amount)
    };
    if !given(&range["min"]) {
        errors.required(&at.child("min"), "required when `validRange` is defined");
    }
    let (min, max, step) = (amount("min", errors), amount("max", errors), amount("step", errors));
    let Some(min) = min else {
        return;
    };
    if max.is_some_and(|max| max < min) {
        errors.invalid(&at.child("min"), range["min"].clone(), "must not be larger than `max`");
    }
    if let Some(default) = default
        && (default < min || max.is_some_and(|max| default > max))
    {
        errors.invalid(&path.child("default"), range.clone(), "must be within `validRange`");
    }
    let Some(step) = step else {
        return;
    };
    if step == Quantity::ZERO {
        errors.invalid(&at.child("step"), range["step"].clone(), "must be greater than zero");
        return;
    }
    if min.plus(step) > whole {
        errors.invalid(
            &at.child("step"),
            range["step"].clone(),
            "one step above `min` must not be larger than the capacity value",
        );
    }
    let reached = |amount: Quantity| amount.minus(min).is_multiple_of(step);
    if max.is_some_and(|max| max >= min && !reached(max)) {
        errors.invalid(&at.child("max"), range["max"].clone(), "must be a multiple of `step` above `min`");
    }
    if default.is_some_and(|default| default >= min && !reached(default)) {
        errors.invalid(&path.child("default"), range.clone(), "must be a multiple of `step` above `min`");
    }
}

fn nodes(device: &Value, placed: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    const WAYS: [&str; 3] = ["nodeName", "nodeSelector", "allNodes"];
    if device["allNodes"] == Value::Bool(false) {
        errors.invalid(&path.child("allNodes"), false, "must be either unset or set to true");
    }
    let set = set_of(device, &WAYS);
    if !placed {
        for field in set {
            let why = "may only be specified when `perDeviceNodeSelection` is true";
            errors.invalid(&path.child(field), device[field].clone(), why);
        }
        return;
    }
    match set.as_slice() {
        [] => errors.required(
            path,
            "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ),
        [_] => {}
        many => errors.invalid(
            path,
            format!("{{`{}`}}", many.join("`, `")),
            "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ),
    }
    let name = &device["nodeName"];
    if given(name) {
        invalid_if(names::dns1123_subdomain(text(name)), name, &path.child("nodeName"), errors);
    }
    one_node_term(&device["nodeSelector"], &path.child("nodeSelector"), errors);
}

/// Conditions that binding a pod waits for, and those that end it.
fn binding(device: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (good, bad) = (&device["bindingConditions"], &device["bindingFailureConditions"]);
    let (at_good, at_bad) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    conditions(good, &at_good, errors);
    conditions(bad, &at_bad, errors);
    if is_empty(good) && !is_empty(bad) {
        let why = "bindingConditions are required to use bindingFailureConditions";
        errors.invalid(&at_good, good.clone(), why);
    }
    if is_empty(bad) && !is_empty(good) {
        let why = "bindingFailureConditions are required to use bindingConditions";
        errors.invalid(&at_bad, bad.clone(), why);
    }
    for (i, condition) in items(bad).iter().enumerate() {
        if items(good).contains(condition) {
            let why = "bindingFailureConditions must not overlap with bindingConditions";
            errors.invalid(&at_bad.index(i), condition.clone(), why);
        }
    }
}
