//! Resource lists: names and amounts, requests against limits.

use super::names;
use super::quota::{COMPUTE, OBJECTS};
use super::read::{items, members, quantity, text};
use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use serde_json::Value;

const HUGE_PAGES: &str = "hugepages-";

/// Whether containers have this resource without a vendor's prefix.
fn standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES)
}

/// Whether the name is Kubernetes' own to give a meaning to.
fn native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A vendor's resource, which is counted in whole pieces and cannot be overcommitted.
fn extended(name: &str) -> bool {
    !native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_none()
}

/// Whether more of it may be asked for than there is: neither vendors' resources nor huge pages are given out twice.
pub fn overcommittable(name: &str) -> bool {
    native(name) && !name.starts_with(HUGE_PAGES)
}

/// Whoever says nothing of where a name comes from means one of Kubernetes'.
pub fn standard(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let known = matches!(name, "storage" | "cpu" | "memory" | "ephemeral-storage")
        || name.starts_with(HUGE_PAGES)
        || name.starts_with(&format!("requests.{HUGE_PAGES}"))
        || COMPUTE.iter().chain(&OBJECTS).any(|known| *known == name);
    if !name.contains('/') && !known {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

fn resource_name(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(problem) = names::qualified_name(name) {
        errors.invalid(path, name, problem);
    }
    standard(name, path, errors);
}

/// Names of compute resources in lists of containers and pods.
pub fn container_resource_name(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    resource_name(name, path, errors);
    if !name.contains('/') && !standard_for_containers(name) {
        errors.invalid(path, name, "must be a standard resource for containers");
    } else if !native(name) && !extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// `resources` of a container or a pod.
pub fn requirements(resources: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let limits_path = path.child("limits");
    for (name, amount) in members(&resources["limits"]) {
        let path = limits_path.key(name);
        container_resource_name(name, &path, errors);
        amount_of(name, amount, &path, errors);
    }
    let requests_path = path.child("requests");
    for (name, amount) in members(&resources["requests"]) {
        let path = requests_path.key(name);
        container_resource_name(name, &path, errors);
        let Some(request) = amount_of(name, amount, &path, errors) else { continue };
        let limit = resources["limits"].get(name);
        let Some(limit) = limit.and_then(|l| Quantity::from_value(l).ok()) else {
            if !overcommittable(name) {
                errors.required(&limits_path, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        if !overcommittable(name) && request != limit {
            let detail = format!("must be equal to {name} limit of {limit}");
            errors.invalid(&requests_path, request.to_string(), detail);
        } else if request > limit {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&requests_path, request.to_string(), detail);
        }
    }
    let has = |name: &str| ["limits", "requests"].iter().any(|list| resources[*list].get(name).is_some());
    let pages = members(&resources["limits"]).chain(members(&resources["requests"]));
    if !has("cpu") && !has("memory") && pages.into_iter().any(|(name, _)| name.starts_with(HUGE_PAGES)) {
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
    // Pages are whole.
    if let Some(Ok(page)) = name.strip_prefix(HUGE_PAGES).map(Quantity::parse)
        && (page.is_zero() || !q.is_multiple_of(page))
    {
        errors.invalid(path, q.to_string(), format!("{q} is not positive integer multiple of {name}"));
    }
    Some(q)
}

/// A list of any resources, none of them negative (quotas, capacities).
pub fn amounts(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (name, amount) in members(list) {
        let path = path.key(name);
        if let Some(problem) = names::qualified_name(name) {
            errors.invalid(&path, name.as_str(), problem);
        }
        quantity(amount, &path, errors);
    }
}

/// A list of a limit range: what containers have, or what else may be bounded.
pub fn bounds(list: &Value, of_containers: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    for (name, amount) in members(list) {
        let path = path.key(name);
        if of_containers {
            container_resource_name(name, &path, errors);
        } else {
            resource_name(name, &path, errors);
        }
        amount_of(name, amount, &path, errors);
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
