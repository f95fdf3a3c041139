//! What the networking group says about classes and addresses: IngressClass, IPAddress, ServiceCIDR.

use super::names;
use super::read::{IMMUTABLE, given, invalid_if, is_empty, items, one_of, required, same, text, unchanged};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");

pub fn ingress_class(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let controller = text(&spec["controller"]);
    let path = SPEC.child("controller");
    if controller.len() > 250 {
        errors.too_long(&path, 250);
    }
    domain_prefixed(controller, &path, errors);
    let parameters = &spec["parameters"];
    if !given(parameters) {
        return;
    }
    let path = SPEC.child("parameters");
    if !is_empty(&parameters["apiGroup"]) {
        let group = &parameters["apiGroup"];
        invalid_if(names::dns1123_subdomain(text(group)), group, &path.child("apiGroup"), errors);
    }
    for field in ["kind", "name"] {
        let value = &parameters[field];
        if text(value).is_empty() {
            errors.required(&path.child(field), format!("{field} is required"));
        } else {
            invalid_if(names::path_segment(text(value)), value, &path.child(field), errors);
        }
    }
    let namespace = &parameters["namespace"];
    match text(&parameters["scope"]) {
        "" => errors.required(&path.child("scope"), ""),
        "Namespace" if is_empty(namespace) => {
            errors.required(&path.child("namespace"), "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => {
            invalid_if(names::dns1123_label(text(namespace)), namespace, &path.child("namespace"), errors);
        }
        "Cluster" if given(namespace) => {
            errors.forbidden(&path.child("namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        _ => one_of(&parameters["scope"], &["Cluster", "Namespace"], &path.child("scope"), errors),
    }
}

/// `example.com/path`
pub fn domain_prefixed(value: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) = value.split_once('/') else {
        errors.invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    if domain.is_empty() || rest.is_empty() {
        errors.invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    }
    if let Some(problem) = names::dns1123_subdomain(domain) {
        errors.invalid(path, domain, problem);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !rest.chars().all(allowed) {
        errors.invalid(
            path,
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}

pub fn ingress_class_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    unchanged(&new["spec"]["controller"], &old["spec"]["controller"], &SPEC.child("controller"), errors);
}

pub fn ip_address(object: &Value, errors: &mut FieldErrors) {
    let parent = &object["spec"]["parentRef"];
    let path = SPEC.child("parentRef");
    if !given(parent) {
        errors.required(&path, "");
        return;
    }
    if !is_empty(&parent["group"]) {
        let group = &parent["group"];
        invalid_if(names::dns1123_subdomain(text(group)), group, &path.child("group"), errors);
    }
    for field in ["resource", "name"] {
        required(&parent[field], &path.child(field), errors);
        if !is_empty(&parent[field]) {
            invalid_if(names::path_segment(text(&parent[field])), &parent[field], &path.child(field), errors);
        }
    }
    if !is_empty(&parent["namespace"]) {
        let namespace = &parent["namespace"];
        invalid_if(names::path_segment(text(namespace)), namespace, &path.child("namespace"), errors);
    }
}

pub fn ip_address_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    unchanged(&new["spec"]["parentRef"], &old["spec"]["parentRef"], &SPEC.child("parentRef"), errors);
}

pub fn service_cidr(object: &Value, errors: &mut FieldErrors) {
    let list = items(&object["spec"]["cidrs"]);
    let path = SPEC.child("cidrs");
    if list.is_empty() {
        errors.required(&path, "at least one CIDR required");
        return;
    }
    if list.len() > 2 {
        let why = "may only hold up to 2 values";
        errors.invalid(&path, object["spec"]["cidrs"].clone(), why);
        return;
    }
    for (i, range) in list.iter().enumerate() {
        let path = path.index(i);
        super::ip::canonical_cidr(range, &path, errors);
    }
    if let [one, two] = list
        && text(one).contains(':') == text(two).contains(':')
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, object["spec"]["cidrs"].clone(), why);
    }
}

/// A range of one family may get one of the other; nothing else changes.
pub fn service_cidr_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (now, before) = (&new["spec"]["cidrs"], &old["spec"]["cidrs"]);
    if same(now, before) {
        return;
    }
    let grows =
        items(before).len() == 1 && items(now).len() == 2 && items(now).first() == items(before).first();
    if !grows {
        errors.invalid(&SPEC.child("cidrs"), now.clone(), IMMUTABLE);
    }
}
