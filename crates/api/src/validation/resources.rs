//! Resource lists: names and amounts, requests against limits.

use super::names;
use super::read::{items, members, quantity, text};
use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use serde_json::Value;

/// Whether containers have this resource without a vendor's prefix.
fn standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

/// A vendor's resource, which is counted in whole pieces and cannot be overcommitted.
fn extended(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(prefix, _)| !prefix.ends_with("kubernetes.io") && !name.starts_with("requests."))
}

/// Names of compute resources in lists of containers and pods.
fn container_resource_name(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(problem) = names::qualified_name(name) {
        errors.invalid(path, name, problem);
    } else if !name.contains('/') && !standard_for_containers(name) {
        errors.invalid(path, name, "must be a standard resource for containers");
    }
}

/// `resources` of a container or a pod.
pub fn requirements(resources: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let limits_path = path.child("limits");
    for (name, amount) in members(&resources["limits"]) {
        container_resource_name(name, &limits_path, errors);
        amount_of(name, amount, &limits_path.key(name), errors);
    }
    let requests_path = path.child("requests");
    for (name, amount) in members(&resources["requests"]) {
        container_resource_name(name, &requests_path, errors);
        let Some(request) = amount_of(name, amount, &requests_path.key(name), errors) else { continue };
        let limit = resources["limits"].get(name);
        let Some(limit) = limit.and_then(|l| Quantity::from_value(l).ok()) else {
            if extended(name) && !name.starts_with("hugepages-") {
                errors.required(&limits_path, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        // Neither vendors' resources nor huge pages are given out more than once.
        if (extended(name) || name.starts_with("hugepages-")) && request != limit {
            let detail = format!("must be equal to {name} limit of {limit}");
            errors.invalid(&requests_path, request.to_string(), detail);
        } else if request > limit {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&requests_path, request.to_string(), detail);
        }
    }
    let has = |name: &str| ["limits", "requests"].iter().any(|list| resources[*list].get(name).is_some());
    let pages = members(&resources["limits"]).chain(members(&resources["requests"]));
    if !has("cpu") && !has("memory") && pages.into_iter().any(|(name, _)| name.starts_with("hugepages-")) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    let claims = path.child("claims");
    for (i, claim) in items(&resources["claims"]).iter().enumerate() {
        if text(&claim["name"]).is_empty() {
            errors.required(&claims.index(i).child("name"), "");
        }
    }
}

fn amount_of(name: &str, amount: &Value, path: &Path<'_>, errors: &mut FieldErrors) -> Option<Quantity> {
    let q = quantity(amount, path, errors)?;
    if extended(name) && !q.is_integer() {
        errors.invalid(path, amount.clone(), "must be an integer");
    }
    Some(q)
}

/// A list of any resources, none of them negative (quotas, capacities, limit ranges).
pub fn amounts(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (name, amount) in members(list) {
        let path = path.key(name);
        if let Some(problem) = names::qualified_name(name) {
            errors.invalid(&path, name.as_str(), problem);
        }
        quantity(amount, &path, errors);
    }
}

/// `resources` of a claim: storage only, the request within the limit.
pub fn requirements_of_storage(resources: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for list in ["limits", "requests"] {
        let path = path.child(list);
        for (name, amount) in members(&resources[list]) {
            if name != "storage" {
                errors.not_supported(&path, name.as_str(), &["storage"]);
            }
            if list == "limits" {
                quantity(amount, &path.key(name), errors);
            }
        }
    }
}
