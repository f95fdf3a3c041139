//! Addresses and networks that could be written in a better way.

use serde_json::Value;

use super::SPEC;
use crate::field::{Path, quote};
use crate::validation::ip::canonical_form;
use crate::validation::read::{items, text};

pub fn address(value: &str, path: &str, out: &mut Vec<String>) {
    told("address", value, path, out);
}

pub fn network(value: &str, path: &str, out: &mut Vec<String>) {
    told("CIDR value", value, path, out);
}

fn told(what: &str, value: &str, path: &str, out: &mut Vec<String>) {
    if let Some(canonical) = canonical_form(value) {
        let (value, canonical) = (quote(value), quote(&canonical));
        out.push(format!("{path}: IPv6 {what} {value} should be in RFC 5952 canonical format ({canonical})"));
    }
}

pub fn network_policy(spec: &Value, out: &mut Vec<String>) {
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = SPEC.child(direction);
        for (i, rule) in items(&spec[direction]).iter().enumerate() {
            let rule_path = rules.index(i);
            let list = rule_path.child(peers);
            for (j, peer) in items(&rule[peers]).iter().enumerate() {
                let peer_path = list.index(j);
                let block = peer_path.child("ipBlock");
                network(text(&peer["ipBlock"]["cidr"]), &block.child("cidr").to_string(), out);
                let except = block.child("except");
                for (k, exception) in items(&peer["ipBlock"]["except"]).iter().enumerate() {
                    network(text(exception), &except.index(k).to_string(), out);
                }
            }
        }
    }
}

pub fn endpoint_slice(object: &Value, out: &mut Vec<String>) {
    if object["addressType"] == "FQDN" {
        out.push("addressType: FQDN endpoints are deprecated".to_owned());
        return;
    }
    let list = Path::new("endpoints");
    for (i, endpoint) in items(&object["endpoints"]).iter().enumerate() {
        let path = list.index(i);
        let addresses = path.child("addresses");
        for (j, value) in items(&endpoint["addresses"]).iter().enumerate() {
            address(text(value), &addresses.index(j).to_string(), out);
        }
    }
}

pub fn endpoints(object: &Value, out: &mut Vec<String>) {
    let list = Path::new("subsets");
    for (i, subset) in items(&object["subsets"]).iter().enumerate() {
        let path = list.index(i);
        for field in ["addresses", "notReadyAddresses"] {
            let addresses = path.child(field);
            for (j, value) in items(&subset[field]).iter().enumerate() {
                address(text(&value["ip"]), &addresses.index(j).child("ip").to_string(), out);
            }
        }
    }
}
