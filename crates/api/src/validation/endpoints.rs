//! Endpoints and EndpointSlices: where traffic may be sent.

use super::names;
use super::read::{invalid_if, ip, is_empty, items, one_of, parse_ip, port, text, unchanged};
use super::service::PROTOCOLS;
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const MAX_HINTS: usize = 8;

pub fn endpoints(object: &Value, errors: &mut FieldErrors) {
    let subsets = Path::new("subsets");
    for (i, subset) in items(&object["subsets"]).iter().enumerate() {
        let path = subsets.index(i);
        if is_empty(&subset["addresses"]) && is_empty(&subset["notReadyAddresses"]) {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            let list = path.child(field);
            for (j, address) in items(&subset[field]).iter().enumerate() {
                let path = list.index(j);
                endpoint_ip(&address["ip"], &path.child("ip"), errors);
                let (hostname, node) = (&address["hostname"], &address["nodeName"]);
                if !is_empty(hostname) {
                    let problem = names::dns1123_label(text(hostname));
                    invalid_if(problem, hostname, &path.child("hostname"), errors);
                }
                if !is_empty(node) {
                    invalid_if(names::dns1123_subdomain(text(node)), node, &path.child("nodeName"), errors);
                }
            }
        }
        let ports = path.child("ports");
        let list = items(&subset["ports"]);
        for (j, p) in list.iter().enumerate() {
            let path = ports.index(j);
            if text(&p["name"]).is_empty() {
                if list.len() > 1 {
                    errors.required(&path.child("name"), "");
                }
            } else {
                invalid_if(names::dns1123_label(text(&p["name"])), &p["name"], &path.child("name"), errors);
            }
            port(&p["port"], &path.child("port"), errors);
            one_of(&p["protocol"], &PROTOCOLS, &path.child("protocol"), errors);
        }
    }
}

/// An address that traffic may be sent to: nobody may reach into a node's own interfaces through a Service.
pub fn endpoint_ip(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    ip(value, path, errors);
    let Some(address) = parse_ip(text(value)) else { return };
    let problem = match address {
        a if a.is_unspecified() => "may not be unspecified (0.0.0.0 or ::)",
        a if a.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        std::net::IpAddr::V4(a) if a.is_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        std::net::IpAddr::V6(a) if a.is_unicast_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        std::net::IpAddr::V4(a) if a.octets().starts_with(&[224, 0, 0]) => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        }
        _ => return,
    };
    errors.invalid(path, value.clone(), problem);
}

pub fn endpoint_slice(object: &Value, errors: &mut FieldErrors) {
    let kind = text(&object["addressType"]);
    let kinds = ["FQDN", "IPv4", "IPv6"];
    if kind.is_empty() {
        errors.required(&Path::new("addressType"), "");
    } else {
        one_of(&object["addressType"], &kinds, &Path::new("addressType"), errors);
    }
    let path = Path::new("endpoints");
    let endpoints = items(&object["endpoints"]);
    if endpoints.len() > 1000 {
        errors.too_many(&path, endpoints.len(), 1000);
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(i);
        let addresses_path = path.child("addresses");
        let addresses = items(&endpoint["addresses"]);
        if addresses.is_empty() {
            errors.required(&addresses_path, "must contain at least 1 address");
        }
        if addresses.len() > 100 {
            errors.too_many(&addresses_path, addresses.len(), 100);
        }
        for (j, address) in addresses.iter().enumerate() {
            let path = addresses_path.index(j);
            match kind {
                "FQDN" => invalid_if(names::dns1123_subdomain(text(address)), address, &path, errors),
                "IPv4" if parse_ip(text(address)).is_some_and(|a| a.is_ipv6()) => {
                    errors.invalid(&path, address.clone(), "must be an IPv4 address");
                }
                "IPv6" if parse_ip(text(address)).is_some_and(|a| a.is_ipv4()) => {
                    errors.invalid(&path, address.clone(), "must be an IPv6 address");
                }
                _ => endpoint_ip(address, &path, errors),
            }
        }
        if !is_empty(&endpoint["nodeName"]) {
            let node = &endpoint["nodeName"];
            invalid_if(names::dns1123_subdomain(text(node)), node, &path.child("nodeName"), errors);
        }
        super::metadata::labels(&endpoint["deprecatedTopology"], &path.child("deprecatedTopology"), errors);
        hints(&endpoint["hints"], &path.child("hints"), errors);
        if !is_empty(&endpoint["hostname"]) {
            let hostname = &endpoint["hostname"];
            invalid_if(names::dns1123_label(text(hostname)), hostname, &path.child("hostname"), errors);
        }
    }
    slice_ports(&object["ports"], errors);
}

/// For whose traffic the endpoint is.
fn hints(hints: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["forZones", "forNodes"] {
        let list = path.child(field);
        let places = items(&hints[field]);
        if places.len() > MAX_HINTS {
            errors.too_many(&list, places.len(), MAX_HINTS);
            continue;
        }
        let mut seen = HashSet::new();
        for (i, place) in places.iter().enumerate() {
            let path = list.index(i);
            let (name, path) = (&place["name"], path.child("name"));
            if !seen.insert(text(name)) {
                errors.duplicate(&path, name.clone());
            }
            let problem = match field {
                "forZones" => names::label_value(text(name)),
                _ => names::dns1123_subdomain(text(name)),
            };
            invalid_if(problem, name, &path, errors);
        }
    }
}

fn slice_ports(ports: &Value, errors: &mut FieldErrors) {
    let path = Path::new("ports");
    let list = items(ports);
    if list.len() > 20_000 {
        errors.too_many(&path, list.len(), 20_000);
        return;
    }
    let mut seen = HashSet::new();
    for (i, p) in list.iter().enumerate() {
        let path = path.index(i);
        let name = text(&p["name"]);
        if !name.is_empty() {
            invalid_if(names::dns1123_label(name), &p["name"], &path.child("name"), errors);
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        one_of(&p["protocol"], &PROTOCOLS, &path.child("protocol"), errors);
        port(&p["port"], &path.child("port"), errors);
        if !is_empty(&p["appProtocol"]) {
            let problem = names::qualified_name(text(&p["appProtocol"]));
            invalid_if(problem, &p["appProtocol"], &path.child("appProtocol"), errors);
        }
    }
}

pub fn endpoint_slice_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    unchanged(&new["addressType"], &old["addressType"], &Path::new("addressType"), errors);
}
