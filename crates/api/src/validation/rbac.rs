//! Roles and their bindings.

use super::names;
use super::read::{given, invalid_if, is_empty, items, same, text};
use super::selector::label_selector;
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role(object: &Value, namespaced: bool, errors: &mut FieldErrors) {
    let rules = Path::new("rules");
    for (i, rule) in items(&object["rules"]).iter().enumerate() {
        let path = rules.index(i);
        if is_empty(&rule["verbs"]) {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        let urls = &rule["nonResourceURLs"];
        if !is_empty(urls) {
            let path = path.child("nonResourceURLs");
            if namespaced {
                errors.invalid(&path, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
            }
            if !is_empty(&rule["apiGroups"])
                || !is_empty(&rule["resources"])
                || !is_empty(&rule["resourceNames"])
            {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&path, urls.clone(), detail);
            }
            continue;
        }
        if is_empty(&rule["apiGroups"]) {
            errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if is_empty(&rule["resources"]) {
            errors.required(&path.child("resources"), "resource rules must supply at least one resource");
        }
    }
    if !namespaced && given(&object["aggregationRule"]) {
        let path = Path::new("aggregationRule");
        let path = path.child("clusterRoleSelectors");
        let selectors = items(&object["aggregationRule"]["clusterRoleSelectors"]);
        if selectors.is_empty() {
            errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for (i, selector) in selectors.iter().enumerate() {
            label_selector(selector, &path.index(i), errors);
        }
    }
}

pub fn binding(object: &Value, namespaced: bool, errors: &mut FieldErrors) {
    let role = &object["roleRef"];
    let path = Path::new("roleRef");
    if text(&role["apiGroup"]) != GROUP {
        errors.not_supported(&path.child("apiGroup"), text(&role["apiGroup"]), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["ClusterRole", "Role"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(&role["kind"])) {
        errors.not_supported(&path.child("kind"), text(&role["kind"]), kinds);
    }
    if text(&role["name"]).is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        invalid_if(names::path_segment(text(&role["name"])), &role["name"], &path.child("name"), errors);
    }
    let subjects = Path::new("subjects");
    for (i, s) in items(&object["subjects"]).iter().enumerate() {
        subject(s, namespaced, &subjects.index(i), errors);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let (name, group) = (&subject["name"], text(&subject["apiGroup"]));
    if text(name).is_empty() {
        errors.required(&path.child("name"), "");
    }
    match text(&subject["kind"]) {
        "ServiceAccount" => {
            if !text(name).is_empty() {
                invalid_if(names::dns1123_subdomain(text(name)), name, &path.child("name"), errors);
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && text(&subject["namespace"]).is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

pub fn binding_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if !same(&new["roleRef"], &old["roleRef"]) {
        errors.invalid(&Path::new("roleRef"), new["roleRef"].clone(), "cannot change roleRef");
    }
}
