//! DeviceClasses.

use super::{MAX_CONFIGS, SPEC, at_most, opaque, selectors};
use crate::field::FieldErrors;
use crate::validation::names;
use crate::validation::read::{given, invalid_if, items, text};
use serde_json::Value;

pub fn class(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    selectors(&spec["selectors"], &SPEC.child("selectors"), errors);
    let list = SPEC.child("config");
    at_most(&spec["config"], MAX_CONFIGS, &list, errors);
    for (i, one) in items(&spec["config"]).iter().enumerate() {
        opaque(&one["opaque"], &list.index(i).child("opaque"), errors);
    }
    let name = &spec["extendedResourceName"];
    if given(name) {
        let path = SPEC.child("extendedResourceName");
        if is_native(text(name)) {
            errors.invalid(&path, name.clone(), "must be a valid extended resource name");
        } else {
            invalid_if(names::qualified_name(text(name)), name, &path, errors);
        }
    }
}

/// A resource of Kubernetes' own, or what a quota calls one.
fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/") || resource.starts_with("requests.")
}
