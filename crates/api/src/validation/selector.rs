//! `metav1.LabelSelector` and plain label maps used as selectors.

use super::names;
use super::read::{given, invalid_if, is_empty, items, text};
use crate::field::{FieldErrors, Path};
use crate::selector::LabelSelector;
use serde_json::Value;

pub fn label_selector(selector: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(selector) {
        return;
    }
    super::metadata::labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    let expressions = path.child("matchExpressions");
    for (i, expression) in items(&selector["matchExpressions"]).iter().enumerate() {
        let path = expressions.index(i);
        let values = &expression["values"];
        match text(&expression["operator"]) {
            "In" | "NotIn" => {
                if is_empty(values) {
                    errors.required(
                        &path.child("values"),
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    );
                }
            }
            "Exists" | "DoesNotExist" => {
                if !is_empty(values) {
                    errors.forbidden(
                        &path.child("values"),
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    );
                }
            }
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        invalid_if(
            names::qualified_name(text(&expression["key"])),
            &expression["key"],
            &path.child("key"),
            errors,
        );
        let values_path = path.child("values");
        for (j, value) in items(values).iter().enumerate() {
            invalid_if(names::label_value(text(value)), value, &values_path.index(j), errors);
        }
    }
}

/// The selector of a workload: given, valid, not empty, and matching the labels of the pods that it makes.
/// `kind` is how upstream calls the workload when the selector is empty.
pub fn workload(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let selector = &spec["selector"];
    let selector_path = path.child("selector");
    if !given(selector) {
        errors.required(&selector_path, "");
        // None selects nothing, an empty one everything.
        mismatch(&spec["template"]["metadata"]["labels"], path, errors);
        return;
    }
    label_selector(selector, &selector_path, errors);
    if is_empty(&selector["matchLabels"]) && is_empty(&selector["matchExpressions"]) {
        errors.invalid(&selector_path, selector.clone(), format!("empty selector is invalid for {kind}"));
        return;
    }
    match LabelSelector::from_object(Some(selector)) {
        Ok(parsed) => {
            let labels = &spec["template"]["metadata"]["labels"];
            if !parsed.matches(labels) {
                mismatch(labels, path, errors);
            }
        }
        Err(e) => errors.invalid(&selector_path, selector.clone(), e.to_string()),
    }
}

pub fn mismatch(labels: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let template = path.child("template");
    let metadata = template.child("metadata");
    errors.invalid(&metadata.child("labels"), labels.clone(), "`selector` does not match template `labels`");
}
