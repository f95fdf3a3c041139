//! Services of every type, and what of them stays when the type changes.

use super::names;
use super::read::{given, in_range, invalid_if, ip, is_empty, items, one_of, port, port_or_name, same, text};
use crate::field::{FieldErrors, Path};
use serde_json::{Value, json};
use std::collections::HashSet;

const SPEC: Path<'static> = Path::new("spec");
const KUBELET_PORT: i64 = 10250;
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

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
        "LoadBalancer" => kubelet_port(spec, errors),
        _ => one_of(&spec["type"], &TYPES, &SPEC.child("type"), errors),
    }
    super::metadata::labels(&spec["selector"], &SPEC.child("selector"), errors);
    affinity(spec, errors);
    addresses(spec, kind, errors);
    policies(spec, kind, errors);
}

/// Balancers that forward to nodes would let everybody reach the kubelet.
fn kubelet_port(spec: &Value, errors: &mut FieldErrors) {
    let list = SPEC.child("ports");
    for (i, p) in items(&spec["ports"]).iter().enumerate() {
        if p["port"].as_i64() == Some(KUBELET_PORT) {
            let why = format!("may not expose port {KUBELET_PORT} externally since it is used by kubelet");
            errors.invalid(&list.index(i), KUBELET_PORT, why);
        }
    }
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
    for (field, value) in [
        ("clusterIPs", &spec["clusterIP"]),
        ("ipFamilies", &spec["ipFamilies"]),
        ("ipFamilyPolicy", &spec["ipFamilyPolicy"]),
    ] {
        if !is_empty(value) {
            errors.forbidden(&SPEC.child(field), "may not be set when type is 'ExternalName'");
        }
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
        if !is_empty(&p["appProtocol"]) {
            let problem = names::qualified_name(text(&p["appProtocol"]));
            invalid_if(problem, &p["appProtocol"], &path.child("appProtocol"), errors);
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
        super::endpoints::endpoint_ip(address, &path, errors);
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
    if given(&spec["loadBalancerClass"]) {
        let path = SPEC.child("loadBalancerClass");
        if kind == "LoadBalancer" {
            let class = &spec["loadBalancerClass"];
            invalid_if(names::qualified_name(text(class)), class, &path, errors);
        } else {
            errors.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
        }
    }
    one_of(
        &spec["trafficDistribution"],
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
        &SPEC.child("trafficDistribution"),
        errors,
    );
    if given(&spec["allocateLoadBalancerNodePorts"]) && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.forbidden(&SPEC.child("allocateLoadBalancerNodePorts"), detail);
    }
    if given(&spec["ipFamilyPolicy"]) {
        let allowed = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of(&spec["ipFamilyPolicy"], &allowed, &SPEC.child("ipFamilyPolicy"), errors);
    }
    let families = SPEC.child("ipFamilies");
    let mut seen = HashSet::new();
    for (i, family) in items(&spec["ipFamilies"]).iter().enumerate() {
        one_of(family, &["IPv4", "IPv6"], &families.index(i), errors);
        if !seen.insert(text(family)) {
            errors.duplicate(&families.index(i), family.clone());
        }
    }
}

pub fn service_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let kind = |spec: &Value| text(&spec["type"]).to_owned();
    if kind(new) == "LoadBalancer" && kind(old) == "LoadBalancer" {
        let class = SPEC.child("loadBalancerClass");
        if !same(&new["loadBalancerClass"], &old["loadBalancerClass"]) {
            errors.invalid(&class, new["loadBalancerClass"].clone(), "may not change once set");
        }
        let local = |spec: &Value| text(&spec["externalTrafficPolicy"]) == "Local";
        if local(new) && local(old) && new["healthCheckNodePort"] != old["healthCheckNodePort"] {
            errors.forbidden(&SPEC.child("healthCheckNodePort"), "field is immutable");
        }
    }
    if kind(new) == "ExternalName" || kind(old) == "ExternalName" {
        return;
    }
    addresses_update(new, old, errors);
}

/// The first address stays, and so does its family; a second comes and goes with the policy.
fn addresses_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let single = text(&new["ipFamilyPolicy"]) == "SingleStack";
    for field in ["clusterIPs", "ipFamilies"] {
        let path = SPEC.child(field);
        let (now, before) = (items(&new[field]), items(&old[field]));
        for (i, (name, was)) in ["primary", "secondary"].into_iter().zip(before).enumerate() {
            match now.get(i) {
                Some(value) if value == was => {}
                Some(_) => errors.invalid(&path.index(i), new[field].clone(), "may not change once set"),
                // A Service of one family has given up the other.
                None if i > 0 && single => {}
                None if field == "clusterIPs" => {
                    let why = format!("{name} clusterIP can not be unset");
                    errors.invalid(&path.index(i), new[field].clone(), why);
                }
                None => {
                    let why = format!("{name} ipFamily can not be unset");
                    errors.invalid(&path.index(i), new[field].clone(), why);
                }
            }
        }
    }
}
