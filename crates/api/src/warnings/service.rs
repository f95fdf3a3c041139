//! Services: settings without effect.

use serde_json::Value;

use super::SPEC;
use crate::validation::read::{items, parse_ip, text};

pub fn service(object: &Value, out: &mut Vec<String>) {
    let spec = &object["spec"];
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
    let addresses = SPEC.child("externalIPs");
    for (i, address) in items(&spec["externalIPs"]).iter().enumerate() {
        plain_address(text(address), &addresses.index(i).to_string(), out);
    }
    plain_address(text(&spec["loadBalancerIP"]), &SPEC.child("loadBalancerIP").to_string(), out);
}

/// IPv6 addresses that embed IPv4 ones are not what they look like.
fn plain_address(text: &str, path: &str, out: &mut Vec<String>) {
    if let Some(std::net::IpAddr::V6(address)) = parse_ip(text) {
        if address.to_ipv4_mapped().is_some() {
            out.push(format!("{path}: non-standard IP address \"{text}\" will be considered invalid in a future Kubernetes release"));
        } else if address.to_string() != text {
            out.push(format!(
                "{path}: IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{address}\")"
            ));
        }
    }
}
