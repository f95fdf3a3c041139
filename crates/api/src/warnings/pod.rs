//! Pods and pod templates.

use std::collections::HashMap;
use std::fmt::Display;

use serde_json::Value;

use super::addresses::address;
use crate::field::{Path, quote};
use crate::quantity::Quantity;
use crate::validation::names;
use crate::validation::read::{given, items, members, text};

/// Labels of nodes that have got other names.
const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

/// Volumes that are not what they were.
const OLD_VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(label, _)| *label == key).map(|(_, why)| *why)
}

/// Names that are no host names.
pub fn name(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    if old.is_some() {
        return;
    }
    if let Some(problem) = names::dns1123_label(text(&new["metadata"]["name"])) {
        out.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{problem}]"
        ));
    }
}

/// Pods get the name of their Job and more.
pub fn generated_name(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    if old.is_none()
        && let Some(problem) = names::dns1123_label(text(&new["metadata"]["name"]))
    {
        out.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{problem}]"
        ));
    }
}

pub fn annotations(metadata: &Value, path: &Path<'_>, spec: &Value, out: &mut Vec<String>) {
    let path = path.child("annotations");
    for (key, _) in members(&metadata["annotations"]) {
        let why = if key == "seccomp.security.alpha.kubernetes.io/pod"
            || key.starts_with("container.seccomp.security.alpha.kubernetes.io/")
        {
            "non-functional in v1.27+; use the \"seccompProfile\" field instead"
        } else if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            let container = key.rsplit('/').next().unwrap_or_default();
            let field = items(&spec["containers"])
                .iter()
                .chain(items(&spec["initContainers"]))
                .find(|c| text(&c["name"]) == container)
                .is_some_and(|c| given(&c["securityContext"]["appArmorProfile"]));
            if field || given(&spec["securityContext"]["appArmorProfile"]) {
                continue;
            }
            "deprecated since v1.30; use the \"appArmorProfile\" field instead"
        } else {
            continue;
        };
        out.push(format!("{}: {why}", path.key(key)));
    }
}

pub fn spec(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    node_selector(&spec["nodeSelector"], &path.child("nodeSelector"), out);
    affinity(&spec["affinity"], &path.child("affinity"), out);
    spread(&spec["topologySpreadConstraints"], &path.child("topologySpreadConstraints"), out);
    host_aliases(&spec["hostAliases"], &path.child("hostAliases"), out);
    let config = path.child("dnsConfig");
    let servers = config.child("nameservers");
    for (i, server) in items(&spec["dnsConfig"]["nameservers"]).iter().enumerate() {
        address(text(server), &servers.index(i).to_string(), out);
    }
    volumes(&spec["volumes"], &path.child("volumes"), out);
    pull_secrets(&spec["imagePullSecrets"], &path.child("imagePullSecrets"), out);
    containers(spec, path, out);
    fractions(&spec["overhead"], &path.child("overhead"), out);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            path.child("terminationGracePeriodSeconds")
        ));
    }
}

pub fn node_selector(selector: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for (key, _) in members(selector) {
        if let Some(why) = old_label(key) {
            out.push(format!("{}: {why}", path.key(key)));
        }
    }
}

/// A term of a NodeSelector, or of a class's topologies.
pub fn node_term(term: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let path = path.child("matchExpressions");
    for (i, expression) in items(&term["matchExpressions"]).iter().enumerate() {
        let key = text(&expression["key"]);
        if let Some(why) = old_label(key) {
            out.push(format!("{}: {key} is {why}", path.index(i).child("key")));
        }
    }
}

fn affinity(affinity: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let node = path.child("nodeAffinity");
    let required = node.child(REQUIRED);
    let terms = required.child("nodeSelectorTerms");
    for (i, term) in items(&affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]).iter().enumerate() {
        node_term(term, &terms.index(i), out);
    }
    let preferred = node.child(PREFERRED);
    for (i, term) in items(&affinity["nodeAffinity"][PREFERRED]).iter().enumerate() {
        node_term(&term["preference"], &preferred.index(i).child("preference"), out);
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(name);
        let required = path.child(REQUIRED);
        for (i, term) in items(&affinity[name][REQUIRED]).iter().enumerate() {
            no_selector(term, &required.index(i), out);
        }
        let preferred = path.child(PREFERRED);
        for (i, term) in items(&affinity[name][PREFERRED]).iter().enumerate() {
            no_selector(&term["podAffinityTerm"], &preferred.index(i).child("podAffinityTerm"), out);
        }
    }
}

fn no_selector(term: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    if term["labelSelector"].is_null() {
        out.push(format!("{}: a null labelSelector results in matching no pod", path.child("labelSelector")));
    }
}

fn spread(constraints: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for (i, constraint) in items(constraints).iter().enumerate() {
        let path = path.index(i);
        let key = text(&constraint["topologyKey"]);
        if let Some(why) = old_label(key) {
            out.push(format!("{}: {key} is {why}", path.child("topologyKey")));
        }
        no_selector(constraint, &path, out);
    }
}

/// Later ones of the same identity: merging lists by that identity keeps one of them.
fn duplicates<'a>(list: &'a [Value], key: &str, mut tell: impl FnMut(usize, &'a str)) {
    let mut seen = HashMap::new();
    for (i, item) in list.iter().enumerate() {
        let id = text(&item[key]);
        if seen.insert(id, i).is_some() {
            tell(i, id);
        }
    }
}

fn host_aliases(aliases: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for (i, alias) in items(aliases).iter().enumerate() {
        address(text(&alias["ip"]), &path.index(i).child("ip").to_string(), out);
    }
    duplicates(items(aliases), "ip", |i, ip| {
        out.push(format!("{}: duplicate ip {}", path.index(i).child("ip"), quote(ip)));
    });
}

fn pull_secrets(secrets: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for (i, secret) in items(secrets).iter().enumerate() {
        if text(&secret["name"]).is_empty() {
            out.push(format!("{}: invalid empty name \"\"", path.index(i).child("name")));
        }
    }
    duplicates(items(secrets), "name", |i, name| {
        if !name.is_empty() {
            out.push(format!("{}: duplicate name {}", path.index(i).child("name"), quote(name)));
        }
    });
}

fn volumes(volumes: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for (i, volume) in items(volumes).iter().enumerate() {
        let path = path.index(i);
        for (kind, why) in OLD_VOLUMES {
            if given(&volume[*kind]) {
                out.push(format!("{}: {why}", path.child(kind)));
            }
        }
        let claim = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
        if given(claim) {
            let ephemeral = path.child("ephemeral");
            let template = ephemeral.child("volumeClaimTemplate");
            super::storage::claim(claim, &template.child("spec"), out);
        }
    }
}

fn containers(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    // What has been seen of ports, with where.
    let mut ports: HashMap<(i64, String), String> = HashMap::new();
    let mut host_ports: HashMap<(i64, String, String), String> = HashMap::new();
    for list in ["initContainers", "containers"] {
        let list_path = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            let path = list_path.index(i);
            env(&container["env"], &path.child("env"), out);
            resources(&container["resources"], &path.child("resources"), out);
            if list == "initContainers" && text(&container["restartPolicy"]) != "Always" {
                continue;
            }
            let ports_path = path.child("ports");
            for (j, port) in items(&container["ports"]).iter().enumerate() {
                let here = ports_path.index(j);
                let protocol = text(&port["protocol"]).to_owned();
                let number = port["containerPort"].as_i64().unwrap_or(0);
                let host = port["hostPort"].as_i64().unwrap_or(0);
                let address = text(&port["hostIP"]).to_owned();
                if host != 0 {
                    tell_again(&mut host_ports, (host, protocol.clone(), address), &here, out);
                    continue;
                }
                tell_again(&mut ports, (number, protocol), &here, out);
            }
        }
    }
}

fn tell_again<K: std::hash::Hash + Eq>(
    seen: &mut HashMap<K, String>,
    key: K,
    here: &impl Display,
    out: &mut Vec<String>,
) {
    match seen.get(&key) {
        Some(there) => out.push(format!("{here}: duplicate port definition with {there}")),
        None => {
            seen.insert(key, here.to_string());
        }
    }
}

fn env(list: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let list = items(list);
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (i, variable) in list.iter().enumerate() {
        let name = text(&variable["name"]);
        let Some(before) = last.insert(name, i).and_then(|at| list.get(at)) else { continue };
        let value = text(&variable["value"]);
        // One that builds on what it hides is meant so.
        let builds_on = value.contains(&format!("$({name})")) && before != variable;
        if !builds_on {
            out.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(i),
                quote(name)
            ));
        }
    }
}

fn resources(resources: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for list in ["limits", "requests"] {
        fractions(&resources[list], &path.child(list), out);
    }
}

/// Amounts of bytes that are no whole number.
pub fn fractions(amounts: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    for (name, amount) in members(amounts) {
        let counted_in_bytes = matches!(name.as_str(), "memory" | "ephemeral-storage" | "storage");
        if counted_in_bytes && Quantity::from_value(amount).is_ok_and(|q| !q.is_integer()) {
            let amount = Quantity::from_value(amount).map(|q| q.to_string()).unwrap_or_default();
            out.push(format!(
                "{}: fractional byte value {} is invalid, must be an integer",
                path.key(name),
                quote(&amount)
            ));
        }
    }
}
