//! Disruption budgets.

use super::read::{at_most_all, count_or_percent, given, one_of};
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
