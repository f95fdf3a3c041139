//! Services, Endpoints and EndpointSlices. Addresses, node ports and IP families are set by allocation, not here.

use super::edit::{Object, each, ensure, get, has_items, missing, set, set_text, text};
use serde_json::Value;

pub fn service(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    set_text(spec, "type", "ClusterIP");
    set_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            if let Some(config) = ensure(spec, "sessionAffinityConfig").and_then(|c| ensure(c, "clientIP")) {
                set(config, "timeoutSeconds", 10800);
            }
        }
        _ => {}
    }
    each(spec, "ports", |port| {
        set_text(port, "protocol", "TCP");
        let absent = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(Value::Number(n)) => n.as_i64() == Some(0),
            Some(Value::String(s)) => s.is_empty(),
            _ => false,
        };
        if absent && let Some(number) = port.get("port").cloned() {
            port.insert("targetPort".into(), number);
        }
    });
    let kind = text(spec, "type").to_owned();
    let external = kind == "NodePort"
        || kind == "LoadBalancer"
        || (kind == "ClusterIP" && has_items(spec, "externalIPs"));
    if external {
        set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    if let Some(balancer) = ensure(object, "status").and_then(|status| ensure(status, "loadBalancer")) {
        if kind != "LoadBalancer" {
            return;
        }
        each(balancer, "ingress", |ingress| {
            if !text(ingress, "ip").is_empty() {
                set(ingress, "ipMode", "VIP");
            }
        });
    }
}

pub fn endpoints(object: &mut Object) {
    each(object, "subsets", |subset| {
        each(subset, "ports", |port| set_text(port, "protocol", "TCP"));
    });
}

pub fn endpoint_slice(object: &mut Object) {
    each(object, "ports", |port| {
        set(port, "name", "");
        set(port, "protocol", "TCP");
    });
    each(object, "endpoints", |endpoint| {
        if missing(endpoint, "conditions") {
            set(endpoint, "conditions", Object::new());
        }
    });
}
