//! Ingresses and network policies.

use super::names;
use super::read::{
    cidr, given, in_range, invalid_if, is_empty, items, one_of, parse_ip, port, port_or_name, text,
};
use super::selector::label_selector;
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");

pub fn ingress(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    if is_empty(&spec["rules"]) && !given(&spec["defaultBackend"]) {
        errors.invalid(&SPEC, spec["rules"].clone(), "either `defaultBackend` or `rules` must be specified");
    }
    if given(&spec["defaultBackend"]) {
        backend(&spec["defaultBackend"], &SPEC.child("defaultBackend"), errors);
    }
    let rules = SPEC.child("rules");
    for (i, rule) in items(&spec["rules"]).iter().enumerate() {
        let path = rules.index(i);
        if !is_empty(&rule["host"]) {
            host(&rule["host"], &path.child("host"), errors);
        }
        if !given(&rule["http"]) {
            continue;
        }
        let http = path.child("http");
        let paths = http.child("paths");
        if is_empty(&rule["http"]["paths"]) {
            errors.required(&paths, "");
        }
        for (j, p) in items(&rule["http"]["paths"]).iter().enumerate() {
            ingress_path(p, &paths.index(j), errors);
        }
    }
    let tls = SPEC.child("tls");
    for (i, entry) in items(&spec["tls"]).iter().enumerate() {
        let path = tls.index(i);
        let hosts = path.child("hosts");
        for (j, name) in items(&entry["hosts"]).iter().enumerate() {
            host(name, &hosts.index(j), errors);
        }
        if !is_empty(&entry["secretName"]) {
            let problem = names::dns1123_subdomain(text(&entry["secretName"]));
            invalid_if(problem, &entry["secretName"], &path.child("secretName"), errors);
        }
    }
    if given(&spec["ingressClassName"]) {
        let name = &spec["ingressClassName"];
        invalid_if(names::dns1123_subdomain(text(name)), name, &SPEC.child("ingressClassName"), errors);
    }
}

pub fn ingress_create(object: &Value, errors: &mut FieldErrors) {
    ingress(object, errors);
    annotation(object, errors);
}

/// A class is named in one way.
fn annotation(object: &Value, errors: &mut FieldErrors) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let old = &object["metadata"]["annotations"][CLASS];
    if given(old) && given(&object["spec"]["ingressClassName"]) && *old != object["spec"]["ingressClassName"]
    {
        let annotations = Path::new("annotations");
        let why = "must match `ingressClassName` when both are specified";
        errors.invalid(&annotations.child(CLASS), old.clone(), why);
    }
}

/// Whether the first range is a part of the second, and not all of it.
fn within(inner: &str, outer: &str) -> bool {
    let parse = |text: &str| -> Option<(u128, u32, u32)> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u32 = prefix.parse().ok()?;
        Some(match parse_ip(address)? {
            std::net::IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, prefix, 4),
            std::net::IpAddr::V6(ip) => (u128::from(ip), prefix, 6),
        })
    };
    let (Some((a, a_bits, a_family)), Some((b, b_bits, b_family))) = (parse(inner), parse(outer)) else {
        // Whichever is malformed has been reported.
        return true;
    };
    let mask = u128::MAX.checked_shl(128 - b_bits.min(128)).unwrap_or(0);
    a_family == b_family && a_bits > b_bits && a & mask == b & mask
}

fn host(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(value);
    if parse_ip(name).is_some() {
        errors.invalid(path, name, "must be a DNS name, not an IP address");
    } else if name.contains('*') {
        invalid_if(names::wildcard_dns1123_subdomain(name), value, path, errors);
    } else {
        invalid_if(names::dns1123_subdomain(name), value, path, errors);
    }
}

fn ingress_path(p: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let value = text(&p["path"]);
    match text(&p["pathType"]) {
        "" => errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            let path = path.child("path");
            if !value.starts_with('/') {
                errors.invalid(&path, value, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(bad) {
                    errors.invalid(&path, value, format!("must not contain '{bad}'"));
                }
            }
            for bad in ["/..", "/."] {
                if value.ends_with(bad) {
                    errors.invalid(&path, value, format!("cannot end with '{bad}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                errors.invalid(&path.child("path"), value, "must be an absolute path");
            }
        }
        other => errors.not_supported(
            &path.child("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    backend(&p["backend"], &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let service = &backend["service"];
    match (given(service), given(&backend["resource"])) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (false, false) => errors.required(path, "either service or resource backend must be specified"),
        (false, true) => {
            let (resource, path) = (&backend["resource"], path.child("resource"));
            for field in ["kind", "name"] {
                if is_empty(&resource[field]) {
                    errors.required(&path.child(field), "");
                } else {
                    let problem = names::path_segment(text(&resource[field]));
                    invalid_if(problem, &resource[field], &path.child(field), errors);
                }
            }
        }
        (true, false) => {
            let path = path.child("service");
            if is_empty(&service["name"]) {
                errors.required(&path.child("name"), "");
            } else {
                invalid_if(
                    names::dns1123_label(text(&service["name"])),
                    &service["name"],
                    &path.child("name"),
                    errors,
                );
            }
            let by_name = !is_empty(&service["port"]["name"]);
            let by_number = service["port"]["number"].as_i64().is_some_and(|n| n != 0);
            match (by_name, by_number) {
                (true, true) => errors.invalid(&path, "", "cannot set both port name & port number"),
                (false, false) => errors.required(&path, "port name or number is required"),
                (true, false) => {
                    port_or_name(&service["port"]["name"], &path.child("port").child("name"), errors)
                }
                (false, true) => {
                    port(&service["port"]["number"], &path.child("port").child("number"), errors)
                }
            }
        }
    }
}

pub fn network_policy(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    label_selector(&spec["podSelector"], &SPEC.child("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = SPEC.child(direction);
        for (i, rule) in items(&spec[direction]).iter().enumerate() {
            let path = rules.index(i);
            let ports = path.child("ports");
            for (j, p) in items(&rule["ports"]).iter().enumerate() {
                policy_port(p, &ports.index(j), errors);
            }
            let list = path.child(peers);
            for (j, peer) in items(&rule[peers]).iter().enumerate() {
                policy_peer(peer, &list.index(j), errors);
            }
        }
    }
    let types = items(&spec["policyTypes"]);
    let path = SPEC.child("policyTypes");
    if types.len() > 2 {
        errors.invalid(&path, spec["policyTypes"].clone(), "may not specify more than two policyTypes");
        return;
    }
    for (i, kind) in types.iter().enumerate() {
        one_of(kind, &["Egress", "Ingress"], &path.index(i), errors);
    }
}

fn policy_port(p: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    one_of(&p["protocol"], &["TCP", "UDP", "SCTP"], &path.child("protocol"), errors);
    if given(&p["port"]) {
        port_or_name(&p["port"], &path.child("port"), errors);
    }
    let end = &p["endPort"];
    if given(end) {
        let path = path.child("endPort");
        match p["port"].as_i64() {
            Some(start) => {
                if end.as_i64().is_some_and(|e| e < start) {
                    errors.invalid(&path, end.clone(), "must be greater than or equal to `port`");
                }
                in_range(end, 1, 65535, &path, errors);
            }
            None if given(&p["port"]) => {
                errors.invalid(&path, end.clone(), "may not be specified when `port` is non-numeric");
            }
            None => errors.invalid(&path, end.clone(), "may not be specified when `port` is not specified"),
        }
    }
}

fn policy_peer(peer: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let by_label = given(&peer["podSelector"]) || given(&peer["namespaceSelector"]);
    label_selector(&peer["podSelector"], &path.child("podSelector"), errors);
    label_selector(&peer["namespaceSelector"], &path.child("namespaceSelector"), errors);
    let block = &peer["ipBlock"];
    if given(block) {
        if by_label {
            errors.forbidden(path, "may not specify both ipBlock and another peer");
        }
        let path = path.child("ipBlock");
        if is_empty(&block["cidr"]) {
            errors.required(&path.child("cidr"), "");
        } else {
            cidr(&block["cidr"], &path.child("cidr"), errors);
        }
        let except = path.child("except");
        for (i, exception) in items(&block["except"]).iter().enumerate() {
            let path = except.index(i);
            if cidr(exception, &path, errors) && !within(text(exception), text(&block["cidr"])) {
                errors.invalid(&path, exception.clone(), "must be a strict subset of `cidr`");
            }
        }
    } else if !by_label {
        errors.required(path, "must specify a peer");
    }
}
