//! `spec.resources`: what a pod asks for as a whole, within which its containers have to stay.

use super::read::{given, items, members};
use crate::field::{FieldErrors, Path};
use crate::pods::{is_compute, requests_of_containers};
use crate::quantity::Quantity;
use serde_json::Value;

pub fn resources(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (whole, own) = (&spec["resources"], path.child("resources"));
    if !given(whole) {
        return;
    }
    if !items(&whole["claims"]).is_empty() {
        errors.forbidden(&own.child("claims"), "may not be set for Resources at pod-level");
    }
    for list in ["limits", "requests"] {
        let path = own.child(list);
        for (name, _) in members(&whole[list]).filter(|(name, _)| !is_compute(name)) {
            errors.not_supported(&path.key(name), name.as_str(), &["cpu", "hugepages-", "memory"]);
        }
    }
    super::resources::requirements(whole, &own, errors);
    let Some(fields) = spec.as_object() else { return };
    let requests = own.child("requests");
    let together = requests_of_containers(fields);
    for (name, amount) in members(&whole["requests"]) {
        if let (Ok(asked), Some(needed)) = (Quantity::from_value(amount), together.get(name))
            && asked < *needed
        {
            let why = format!("must be greater than or equal to aggregate container requests of {needed}");
            errors.invalid(&requests.key(name), asked.to_string(), why);
        }
    }
    for list in ["containers", "initContainers"] {
        let path = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            limits_within(container, &whole["limits"], &path.index(i), errors);
        }
    }
}

fn limits_within(container: &Value, whole: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("resources");
    let path = path.child("limits");
    for (name, amount) in members(&container["resources"]["limits"]) {
        let most = whole.get(name).and_then(|amount| Quantity::from_value(amount).ok());
        if let (Ok(limit), Some(most)) = (Quantity::from_value(amount), most)
            && limit > most
        {
            let why = format!("must be less than or equal to pod limits of {most}");
            errors.invalid(&path.key(name), limit.to_string(), why);
        }
    }
}
