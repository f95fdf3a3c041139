//! What kubelets and others may say of a pod.

use super::names;
use super::read::{given, ip, items, not_negative, parse_ip, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const STATUS: Path<'static> = Path::new("status");
/// Types of conditions that are the system's own.
const OWN: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];

pub fn status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (now, before) = (&new["status"], &old["status"]);
    not_negative(&now["observedGeneration"], &STATUS.child("observedGeneration"), errors);
    conditions(&now["conditions"], errors);
    let nominated = text(&now["nominatedNodeName"]);
    if !nominated.is_empty()
        && let Some(problem) = names::dns1123_subdomain(nominated)
    {
        errors.invalid(&STATUS.child("nominatedNodeName"), nominated, problem);
    }
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        ended_stay_ended(&old["spec"], list, &now[list], &before[list], errors);
    }
    claims(&new["spec"], &now["resourceClaimStatuses"], errors);
    addresses(&now["podIPs"], "podIPs", errors);
    addresses(&now["hostIPs"], "hostIPs", errors);
    if let Some(first) = items(&now["hostIPs"]).first()
        && first["ip"] != now["hostIP"]
    {
        let list = STATUS.child("hostIPs");
        let path = list.index(0);
        errors.invalid(&path.child("ip"), first["ip"].clone(), "must be equal to `hostIP`");
    }
}

fn conditions(conditions: &Value, errors: &mut FieldErrors) {
    let path = STATUS.child("conditions");
    for (i, condition) in items(conditions).iter().enumerate() {
        let kind = text(&condition["type"]);
        if OWN.contains(&kind) {
            continue;
        }
        if let Some(problem) = names::qualified_name(kind) {
            errors.invalid(&path.index(i).child("Type"), kind, problem);
        }
    }
}

/// A container that will not be started again cannot be told to run.
fn ended_stay_ended(spec: &Value, list: &str, new: &Value, old: &Value, errors: &mut FieldErrors) {
    // What may be restarted by rules of its own, or with its whole pod, may begin again at any time.
    let all = ["containers", "initContainers"];
    let by_rules = |container: &Value| given(&container["restartPolicyRules"]);
    if all.iter().any(|field| items(&spec[*field]).iter().any(by_rules)) {
        return;
    }
    let policy_of = |name: &str| {
        let of_pod = match (list, text(&spec["restartPolicy"])) {
            ("ephemeralContainerStatuses", _) => "Never",
            // They run again with a sandbox that has to be made again.
            ("initContainerStatuses", "OnFailure") => "Always",
            (_, policy) => policy,
        };
        let containers = all.iter().flat_map(|field| items(&spec[*field]));
        let own = containers.into_iter().find(|container| text(&container["name"]) == name);
        own.and_then(|container| container["restartPolicy"].as_str()).unwrap_or(of_pod)
    };
    let path = STATUS.child(list);
    for (i, before) in items(old).iter().enumerate() {
        let ended = &before["state"]["terminated"];
        if !given(ended) {
            continue;
        }
        let name = text(&before["name"]);
        let starts_again = match policy_of(name) {
            "Never" => false,
            "OnFailure" => ended["exitCode"] != 0,
            _ => true,
        };
        let now = items(new).iter().find(|status| text(&status["name"]) == name);
        if !starts_again && now.is_some_and(|status| !given(&status["state"]["terminated"])) {
            let why = "may not be transitioned to non-terminated state";
            errors.forbidden(&path.index(i).child("state"), why);
        }
    }
}

fn claims(spec: &Value, told: &Value, errors: &mut FieldErrors) {
    let path = STATUS.child("resourceClaimStatuses");
    let mut seen = HashSet::new();
    for (i, status) in items(told).iter().enumerate() {
        let path = path.index(i);
        let name = text(&status["name"]);
        if !items(&spec["resourceClaims"]).iter().any(|claim| text(&claim["name"]) == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&path.child("name"), name, why);
        }
        let claim = &status["resourceClaimName"];
        if let Some(problem) = claim.as_str().and_then(names::dns1123_subdomain) {
            errors.invalid(&path.child("name"), claim.clone(), problem);
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
}

/// At most one address of each family.
fn addresses(list: &Value, field: &str, errors: &mut FieldErrors) {
    let path = STATUS.child(field);
    for (i, address) in items(list).iter().enumerate() {
        ip(&address["ip"], &path.index(i), errors);
    }
    let parsed: Vec<_> = items(list).iter().filter_map(|address| parse_ip(text(&address["ip"]))).collect();
    if items(list).len() < 2 || parsed.len() < items(list).len() {
        return;
    }
    let of_both = parsed.iter().any(|address| address.is_ipv4()) && parsed.iter().any(|a| a.is_ipv6());
    if !of_both || parsed.len() > 2 {
        errors.invalid(&path, list.clone(), "may specify no more than one IP for each IP family");
    }
    let mut seen = HashSet::new();
    for (i, address) in items(list).iter().enumerate() {
        if !seen.insert(text(&address["ip"])) {
            errors.duplicate(&path.index(i), address.clone());
        }
    }
}
