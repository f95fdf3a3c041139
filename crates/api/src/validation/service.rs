//! Services, Endpoints and EndpointSlices.

use super::names;
use super::read::{
    given, in_range, invalid_if, ip, is_empty, is_true, items, one_of, parse_ip, port, port_or_name, text,
    unchanged,
};
use crate::field::{FieldErrors, Path};
use serde_json::{Value, json};
use std::collections::HashSet;

const SPEC: Path<'static> = Path::new("spec");
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub fn service(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let kind = text(&spec["type"]);
    let headless = text(&spec["clusterIP"]) == "None"
        || items(&spec["clusterIPs"]).first().is_some_and(|ip| text(ip) == "None");
    if is_empty(&spec["ports"]) && !headless && kind != "ExternalName" {
        errors.required(&SPEC.child("ports"), "");
    }
    ports(spec, kind, headless, errors);
    match kind {
        "" => errors.required(&SPEC.child("type"), ""),
        "NodePort" | "LoadBalancer" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&SPEC.child("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => external_name(spec, errors),
        _ => one_of(&spec["type"], &TYPES, &SPEC.child("type"), errors),
    }
    super::metadata::labels(&spec["selector"], &SPEC.child("selector"), errors);
    affinity(spec, errors);
    addresses(spec, kind, errors);
    policies(spec, kind, errors);
}

fn external_name(spec: &Value, errors: &mut FieldErrors) {
    let name = text(&spec["externalName"]).trim_end_matches('.');
    if name.is_empty() {
        errors.required(&SPEC.child("externalName"), "");
    } else {
        invalid_if(
            names::dns1123_subdomain(name),
            &spec["externalName"],
            &SPEC.child("externalName"),
            errors,
        );
    }
    if !is_empty(&spec["clusterIP"]) {
        errors.forbidden(&SPEC.child("clusterIPs"), "may not be set when type is 'ExternalName'");
    }
}

fn ports(spec: &Value, kind: &str, headless: bool, errors: &mut FieldErrors) {
    let list = items(&spec["ports"]);
    let path = SPEC.child("ports");
    let (mut by_name, mut by_port, mut by_node_port) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (i, p) in list.iter().enumerate() {
        let path = path.index(i);
        let name = text(&p["name"]);
        if name.is_empty() {
            if list.len() > 1 {
                errors.required(&path.child("name"), "");
            }
        } else {
            invalid_if(names::dns1123_label(name), &p["name"], &path.child("name"), errors);
            if !by_name.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        match p["port"].as_i64() {
            None => errors.required(&path.child("port"), ""),
            Some(_) => port(&p["port"], &path.child("port"), errors),
        }
        let protocol = text(&p["protocol"]);
        if protocol.is_empty() {
            errors.required(&path.child("protocol"), "");
        } else {
            one_of(&p["protocol"], &PROTOCOLS, &path.child("protocol"), errors);
        }
        if given(&p["targetPort"]) {
            port_or_name(&p["targetPort"], &path.child("targetPort"), errors);
        }
        if !by_port.insert((protocol, p["port"].as_i64())) {
            errors.duplicate(&path, json!({"port": p["port"], "protocol": protocol}));
        }
        if let Some(number) = p["nodePort"].as_i64().filter(|n| *n != 0) {
            if headless || matches!(kind, "ClusterIP" | "ExternalName") {
                let detail = format!("may not be used when `type` is '{kind}'");
                errors.forbidden(&path.child("nodePort"), detail);
            } else if !by_node_port.insert((protocol, number)) {
                errors.duplicate(&path.child("nodePort"), number);
            }
        }
    }
}

fn affinity(spec: &Value, errors: &mut FieldErrors) {
    let affinity = text(&spec["sessionAffinity"]);
    let path = SPEC.child("sessionAffinity");
    if affinity.is_empty() {
        errors.required(&path, "");
        return;
    }
    one_of(&spec["sessionAffinity"], &["ClientIP", "None"], &path, errors);
    let config = &spec["sessionAffinityConfig"];
    let config_path = SPEC.child("sessionAffinityConfig");
    if affinity == "None" && given(config) {
        let detail = "must not be set when session affinity is None";
        errors.forbidden(&config_path, detail);
    }
    if affinity == "ClientIP" {
        let seconds = &config["clientIP"]["timeoutSeconds"];
        if !seconds.as_i64().is_some_and(|n| (1..=86400).contains(&n)) {
            let client = config_path.child("clientIP");
            let detail = "must be greater than 0 and less than 86400";
            errors.invalid(&client.child("timeoutSeconds"), seconds.clone(), detail);
        }
    }
}

fn addresses(spec: &Value, kind: &str, errors: &mut FieldErrors) {
    let external = SPEC.child("externalIPs");
    for (i, address) in items(&spec["externalIPs"]).iter().enumerate() {
        let path = external.index(i);
        ip(address, &path, errors);
        if parse_ip(text(address)).is_some_and(|a| a.is_loopback() || a.is_unspecified()) {
            errors.invalid(&path, address.clone(), "may not be a loopback or unspecified address");
        }
    }
    let path = SPEC.child("clusterIPs");
    for (i, address) in items(&spec["clusterIPs"]).iter().enumerate() {
        match text(address) {
            "None" if i == 0 => {}
            "None" => errors.invalid(
                &path.index(i),
                "None",
                "may not be set to 'None' when multiple clusterIPs are specified",
            ),
            _ => ip(address, &path.index(i), errors),
        }
    }
    let (first, list) = (text(&spec["clusterIP"]), items(&spec["clusterIPs"]));
    if !first.is_empty() {
        if list.is_empty() && first != "None" {
            ip(&spec["clusterIP"], &SPEC.child("clusterIP"), errors);
        } else if let Some(other) = list.first()
            && text(other) != first
        {
            errors.invalid(&path, spec["clusterIPs"].clone(), "first value must match `clusterIP`");
        }
    }
    let ranges = SPEC.child("loadBalancerSourceRanges");
    for (i, range) in items(&spec["loadBalancerSourceRanges"]).iter().enumerate() {
        if kind != "LoadBalancer" {
            errors.forbidden(&ranges, "may only be used when `type` is 'LoadBalancer'");
            break;
        }
        super::read::cidr(range, &ranges.index(i), errors);
    }
}

fn policies(spec: &Value, kind: &str, errors: &mut FieldErrors) {
    one_of(
        &spec["internalTrafficPolicy"],
        &["Cluster", "Local"],
        &SPEC.child("internalTrafficPolicy"),
        errors,
    );
    let external = text(&spec["externalTrafficPolicy"]);
    if !external.is_empty() {
        let path = SPEC.child("externalTrafficPolicy");
        let reachable = matches!(kind, "NodePort" | "LoadBalancer") || !is_empty(&spec["externalIPs"]);
        if reachable {
            one_of(&spec["externalTrafficPolicy"], &["Cluster", "Local"], &path, errors);
        } else {
            errors.invalid(&path, external, "may only be set for externally-accessible services");
        }
    }
    if let Some(number) = spec["healthCheckNodePort"].as_i64().filter(|n| *n != 0) {
        in_range(&spec["healthCheckNodePort"], 1, 65535, &SPEC.child("healthCheckNodePort"), errors);
        if kind != "LoadBalancer" || external != "Local" {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&SPEC.child("healthCheckNodePort"), number, detail);
        }
    }
    if is_true(&spec["allocateLoadBalancerNodePorts"]) && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.forbidden(&SPEC.child("allocateLoadBalancerNodePorts"), detail);
    }
    if given(&spec["ipFamilyPolicy"]) {
        let allowed = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of(&spec["ipFamilyPolicy"], &allowed, &SPEC.child("ipFamilyPolicy"), errors);
    }
    let families = SPEC.child("ipFamilies");
    for (i, family) in items(&spec["ipFamilies"]).iter().enumerate() {
        one_of(family, &["IPv4", "IPv6"], &families.index(i), errors);
    }
}

pub fn service_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let external = |spec: &Value| text(&spec["type"]) == "ExternalName";
    let (new_ip, old_ip) = (text(&new["clusterIP"]), text(&old["clusterIP"]));
    if external(new) || external(old) || old_ip.is_empty() || new_ip == old_ip {
        return;
    }
    let path = SPEC.child("clusterIPs");
    if new_ip.is_empty() {
        errors.invalid(&path.index(0), new["clusterIPs"].clone(), "primary clusterIP can not be unset");
    } else {
        errors.invalid(&path.index(0), json!([new_ip]), "may not change once set");
    }
}

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
                endpoint_ip(&address["ip"], &list.index(j).child("ip"), errors);
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
fn endpoint_ip(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
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
        if !is_empty(&endpoint["hostname"]) {
            let hostname = &endpoint["hostname"];
            invalid_if(names::dns1123_label(text(hostname)), hostname, &path.child("hostname"), errors);
        }
    }
    slice_ports(&object["ports"], errors);
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
    }
}

pub fn endpoint_slice_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    unchanged(&new["addressType"], &old["addressType"], &Path::new("addressType"), errors);
}
