//! Taints of devices, and the tolerations of those who ask for some.

use super::at_most;
use crate::field::{FieldErrors, Path};
use crate::validation::names;
use crate::validation::read::{invalid_if, items, one_of, required, text};
use serde_json::Value;

const MAX: usize = 16;

pub fn taints(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, MAX, path, errors);
    for (i, taint) in items(list).iter().enumerate() {
        let path = path.index(i);
        invalid_if(names::qualified_name(text(&taint["key"])), &taint["key"], &path.child("key"), errors);
        invalid_if(names::label_value(text(&taint["value"])), &taint["value"], &path.child("value"), errors);
        let effect = &taint["effect"];
        required(effect, &path.child("effect"), errors);
        if !text(effect).is_empty() {
            one_of(effect, &["NoExecute", "NoSchedule", "None"], &path.child("effect"), errors);
        }
    }
}

pub fn tolerations(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, MAX, path, errors);
    for (i, toleration) in items(list).iter().enumerate() {
        self::toleration(toleration, &path.index(i), errors);
    }
}

fn toleration(toleration: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (key, value, operator) = (&toleration["key"], &toleration["value"], text(&toleration["operator"]));
    if !text(key).is_empty() {
        invalid_if(names::qualified_name(text(key)), key, &path.child("key"), errors);
    }
    match operator {
        "Exists" if !text(value).is_empty() => {
            errors.invalid(&path.child("value"), value.clone(), "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => {
            if text(key).is_empty() {
                errors.required(&path.child("key"), "may be empty only with operator `Exists`");
            }
            invalid_if(names::label_value(text(value)), value, &path.child("value"), errors);
        }
        "" => errors.required(&path.child("operator"), ""),
        other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    let effect = &toleration["effect"];
    if !text(effect).is_empty() {
        one_of(effect, &["NoExecute", "NoSchedule"], &path.child("effect"), errors);
    }
}
