//! What the API server refuses, one file per kind.

use crate::field::FieldErrors;
use crate::gvk::GroupVersionKind;
use serde_json::Value;

#[cfg(test)]
pub mod fuzz;
pub mod names;

/// What is wrong with a new object.
pub fn create(gvk: &GroupVersionKind, object: &Value) -> FieldErrors {
    let _ = (gvk, object);
    FieldErrors::new()
}

/// What is wrong with a change.
pub fn update(gvk: &GroupVersionKind, new: &Value, old: &Value) -> FieldErrors {
    let _ = (gvk, new, old);
    FieldErrors::new()
}
