//! The device claims of a pod, and which containers use them.

use super::names;
use super::read::{given, invalid_if, items, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

pub fn claims(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let list = path.child("resourceClaims");
    let mut known = HashSet::new();
    for (i, claim) in items(&spec["resourceClaims"]).iter().enumerate() {
        let path = list.index(i);
        let name = text(&claim["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if let Some(problem) = names::dns1123_label(name) {
            errors.invalid(&path.child("name"), name, problem);
        } else if !known.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        source(claim, &path, errors);
    }
    for field in ["initContainers", "containers"] {
        let list = path.child(field);
        for (i, container) in items(&spec[field]).iter().enumerate() {
            let path = list.index(i);
            let path = path.child("resources");
            let path = path.child("claims");
            used(&container["resources"]["claims"], &known, &path, errors);
        }
    }
}

fn source(claim: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let sources = ["resourceClaimName", "resourceClaimTemplateName"];
    let set: Vec<&str> = sources.into_iter().filter(|field| given(&claim[*field])).collect();
    match set.as_slice() {
        [] => errors.invalid(
            path,
            claim.clone(),
            "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        ),
        [one] => {
            invalid_if(names::dns1123_subdomain(text(&claim[*one])), &claim[*one], &path.child(one), errors);
        }
        _ => errors.invalid(
            path,
            claim.clone(),
            "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        ),
    }
}

fn used(list: &Value, known: &HashSet<&str>, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (i, claim) in items(list).iter().enumerate() {
        let path = path.index(i);
        let name = text(&claim["name"]);
        if name.is_empty() {
            continue; // reported with the container's resources
        }
        if !known.contains(name) {
            errors.not_found(&path.child("name"), name);
        }
        if !seen.insert((name, text(&claim["request"]))) {
            errors.duplicate(&path, name);
        }
    }
}
