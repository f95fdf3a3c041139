//! Network policies and ingress classes.

use super::edit::{Object, each, get, has_items, missing, set};

pub fn network_policy(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| each(rule, "ports", |port| set(port, "protocol", "TCP")));
    }
    if !has_items(spec, "policyTypes")
        && (missing(spec, "policyTypes") || spec.get("policyTypes").is_some_and(serde_json::Value::is_array))
    {
        let mut types = vec!["Ingress"];
        if has_items(spec, "egress") {
            types.push("Egress");
        }
        spec.insert("policyTypes".into(), types.into());
    }
}

pub fn ingress_class(object: &mut Object) {
    if let Some(parameters) = get(object, "spec").and_then(|spec| get(spec, "parameters")) {
        set(parameters, "scope", "Cluster");
    }
}
