//! When a container is started again: after it has ended, and after its resources have changed.

use super::container::Sort;
use super::read::{given, is_empty, items, one_of, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;

pub fn restart(c: &Value, sort: Sort, path: &Path<'_>, errors: &mut FieldErrors) {
    let (policy, rules) = (&c["restartPolicy"], &c["restartPolicyRules"]);
    if sort == Sort::Ephemeral {
        for (field, value) in [("restartPolicy", policy), ("restartPolicyRules", rules)] {
            if !is_empty(value) {
                errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
            }
        }
        return;
    }
    one_of(policy, &POLICIES, &path.child("restartPolicy"), errors);
    if is_empty(rules) {
        return;
    }
    if !given(policy) {
        let why = "must specify restartPolicy when restart rules are used";
        errors.required(&path.child("restartPolicy"), why);
    }
    let list = path.child("restartPolicyRules");
    let count = items(rules).len();
    if count > MAX_RULES {
        errors.too_many(&list, count, MAX_RULES);
        return;
    }
    for (i, rule) in items(rules).iter().enumerate() {
        restart_rule(rule, &list.index(i), errors);
    }
}

fn restart_rule(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if is_empty(&rule["action"]) {
        errors.required(&path.child("action"), "");
    } else {
        one_of(&rule["action"], &["Restart", "RestartAllContainers"], &path.child("action"), errors);
    }
    let (codes, path) = (&rule["exitCodes"], path.child("exitCodes"));
    if !given(codes) {
        errors.required(&path, "must be specified");
        return;
    }
    if is_empty(&codes["operator"]) {
        errors.required(&path.child("operator"), "");
    } else {
        one_of(&codes["operator"], &["In", "NotIn"], &path.child("operator"), errors);
    }
    let count = items(&codes["values"]).len();
    if count == 0 {
        errors.required(&path.child("values"), "must specify at least one value");
    } else if count > MAX_EXIT_CODES {
        errors.too_many(&path.child("values"), count, MAX_EXIT_CODES);
    }
}

/// `resizePolicy`: what becomes of the container when its CPU or memory changes.
pub fn resize(c: &Value, sort: Sort, pod_policy: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if is_empty(&c["resizePolicy"]) || sort == Sort::Ephemeral {
        return; // that of an ephemeral container is refused as a whole
    }
    let list = path.child("resizePolicy");
    let mut seen = HashSet::new();
    for (i, policy) in items(&c["resizePolicy"]).iter().enumerate() {
        let path = list.index(i);
        let (resource, restart) = (text(&policy["resourceName"]), text(&policy["restartPolicy"]));
        if !seen.insert(resource) {
            errors.duplicate(&path, resource);
        }
        match resource {
            "" => errors.required(&path.child("resourceName"), ""),
            "cpu" | "memory" => {}
            other => errors.not_supported(&path.child("resourceName"), other, &["cpu", "memory"]),
        }
        let path = path.child("restartPolicy");
        match restart {
            "" => errors.required(&path, ""),
            "NotRequired" => {}
            "RestartContainer" if pod_policy == "Never" => {
                errors.invalid(&path, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
            }
            "RestartContainer" => {}
            other => errors.not_supported(&path, other, &["NotRequired", "RestartContainer"]),
        }
    }
}
