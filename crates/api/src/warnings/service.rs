//! Services: settings without effect.

use serde_json::Value;

use super::SPEC;
use super::addresses::{address, network};
use crate::validation::read::{items, text};

pub fn service(object: &Value, out: &mut Vec<String>) {
    let spec = &object["spec"];
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    if object["metadata"]["annotations"].get(HINTS).is_some() {
        out.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    if !items(&spec["externalIPs"]).is_empty() {
        out.push("spec.externalIPs is deprecated".to_owned());
    }
    let kind = text(&spec["type"]);
    let headless = text(&spec["clusterIP"]) == "None";
    if kind != "ExternalName" && !text(&spec["externalName"]).is_empty() {
        out.push(format!("{} is ignored when spec.type is not \"ExternalName\"", SPEC.child("externalName")));
    }
    if kind != "ExternalName" && headless {
        if !text(&spec["loadBalancerIP"]).is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !items(&spec["externalIPs"]).is_empty() {
            out.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if text(&spec["sessionAffinity"]) == "ClientIP" {
            out.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    for field in ["clusterIPs", "externalIPs"] {
        let path = SPEC.child(field);
        for (i, value) in items(&spec[field]).iter().enumerate() {
            address(text(value), &path.index(i).to_string(), out);
        }
    }
    let path = SPEC.child("loadBalancerSourceRanges");
    for (i, range) in items(&spec["loadBalancerSourceRanges"]).iter().enumerate() {
        network(text(range), &path.index(i).to_string(), out);
    }
    address(text(&spec["loadBalancerIP"]), &SPEC.child("loadBalancerIP").to_string(), out);
}
