//! What is written through `status` and the other subresources of the server's own parts.

use super::read::{given, is_empty, items, members, not_negative, parse_ip, quantity, text};
use super::{certificates, csi, dra, job_status, names, pod_status};
use crate::field::{FieldErrors, Path};
use crate::gvk::GroupVersionKind;
use serde_json::Value;

const STATUS: Path<'static> = Path::new("status");
/// How far the expansion of a claim is.
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizePending",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
];

/// Through `status`.
pub fn status(gvk: &GroupVersionKind, new: &Value, old: &Value, e: &mut FieldErrors) {
    let now = &new["status"];
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("apps", "Deployment") => {
            counts(
                now,
                &[
                    "observedGeneration",
                    "replicas",
                    "updatedReplicas",
                    "readyReplicas",
                    "availableReplicas",
                    "unavailableReplicas",
                ],
                e,
            );
            within(
                now,
                &["updatedReplicas", "readyReplicas", "availableReplicas"],
                "replicas",
                "status.replicas",
                e,
            );
            within(now, &["availableReplicas"], "readyReplicas", "readyReplicas", e);
            not_less(new, old, "collisionCount", e);
        }
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            counts(
                now,
                &[
                    "observedGeneration",
                    "replicas",
                    "fullyLabeledReplicas",
                    "readyReplicas",
                    "availableReplicas",
                ],
                e,
            );
            within(
                now,
                &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
                "replicas",
                "status.replicas",
                e,
            );
            within(now, &["availableReplicas"], "readyReplicas", "readyReplicas", e);
        }
        ("apps", "StatefulSet") => {
            counts(
                now,
                &[
                    "observedGeneration",
                    "replicas",
                    "readyReplicas",
                    "currentReplicas",
                    "updatedReplicas",
                    "availableReplicas",
                ],
                e,
            );
            within(
                now,
                &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
                "replicas",
                "status.replicas",
                e,
            );
            within(now, &["availableReplicas"], "readyReplicas", "status.readyReplicas", e);
            not_less(new, old, "collisionCount", e);
        }
        ("apps", "DaemonSet") => {
            counts(
                now,
                &[
                    "currentNumberScheduled",
                    "numberMisscheduled",
                    "desiredNumberScheduled",
                    "numberReady",
                    "observedGeneration",
                    "updatedNumberScheduled",
                    "numberAvailable",
                    "numberUnavailable",
                ],
                e,
            );
            not_less(new, old, "collisionCount", e);
        }
        ("batch", "Job") => {
            counts(now, &["active", "succeeded", "failed", "ready", "terminating"], e);
            job_status::status(new, old, e);
        }
        ("policy", "PodDisruptionBudget") => {
            counts(now, &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"], e);
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            counts(now, &["observedGeneration", "currentReplicas", "desiredReplicas"], e);
        }
        ("", "ResourceQuota") => {
            for list in ["hard", "used"] {
                amounts(&now[list], &STATUS.child(list), e);
            }
        }
        ("", "PersistentVolumeClaim") => {
            amounts(&now["capacity"], &STATUS.child("capacity"), e);
            amounts(&now["allocatedResources"], &STATUS.child("allocatedResources"), e);
            let path = STATUS.child("allocatedResourceStatuses");
            for (name, state) in members(&now["allocatedResourceStatuses"]) {
                super::read::one_of(state, &RESIZES, &path.key(name), e);
            }
        }
        ("", "Node") => {
            for list in ["capacity", "allocatable"] {
                amounts(&now[list], &STATUS.child(list), e);
            }
            addresses(now, e);
        }
        ("", "Namespace") => namespace(new, e),
        ("", "Service") => {
            let ingress = &now["loadBalancer"]["ingress"];
            if text(&new["spec"]["type"]) != "LoadBalancer" && !is_empty(ingress) {
                let why = "may only be used when `spec.type` is \"LoadBalancer\"";
                e.forbidden(&STATUS.child("loadBalancer").child("ingress"), why);
            } else {
                load_balancer(&now["loadBalancer"], e);
            }
        }
        ("networking.k8s.io", "Ingress") => load_balancer(&now["loadBalancer"], e),
        ("", "Pod") => pod_status::status(new, old, e),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::status(new, old, e),
        ("storage.k8s.io", "VolumeAttachment") => csi::attachment_status(new, e),
        ("resource.k8s.io", "ResourceClaim") => dra::claim_status(new, old, e),
        _ => {}
    }
}

fn counts(status: &Value, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        not_negative(&status[*field], &STATUS.child(field), errors);
    }
}

fn within(status: &Value, fields: &[&str], limit: &str, called: &str, errors: &mut FieldErrors) {
    let limit = status[limit].as_i64().unwrap_or(0);
    for field in fields {
        if status[*field].as_i64().unwrap_or(0) > limit {
            let why = format!("cannot be greater than {called}");
            errors.invalid(&STATUS.child(field), status[*field].clone(), why);
        }
    }
}

fn not_less(new: &Value, old: &Value, field: &str, errors: &mut FieldErrors) {
    let number = |object: &Value| object["status"][field].as_i64().unwrap_or(0);
    if number(new) < number(old) {
        errors.invalid(&STATUS.child(field), new["status"][field].clone(), "cannot be decremented");
    }
}

fn amounts(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (name, amount) in members(list) {
        quantity(amount, &path.key(name), errors);
    }
}

fn addresses(status: &Value, errors: &mut FieldErrors) {
    let list = STATUS.child("addresses");
    let mut seen = std::collections::HashSet::new();
    for (i, address) in items(&status["addresses"]).iter().enumerate() {
        if !seen.insert((text(&address["type"]), text(&address["address"]))) {
            errors.duplicate(&list.index(i), address.clone());
        }
    }
}

fn namespace(object: &Value, errors: &mut FieldErrors) {
    let phase = text(&object["status"]["phase"]);
    let path = STATUS.child("phase");
    if given(&object["metadata"]["deletionTimestamp"]) {
        if phase != "Terminating" {
            errors.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
    } else if phase != "Active" {
        errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
    }
}

fn load_balancer(balancer: &Value, errors: &mut FieldErrors) {
    let path = STATUS.child("loadBalancer");
    let list = path.child("ingress");
    for (i, ingress) in items(&balancer["ingress"]).iter().enumerate() {
        let path = list.index(i);
        if !is_empty(&ingress["ip"]) {
            super::read::ip(&ingress["ip"], &path.child("ip"), errors);
        }
        if given(&ingress["ipMode"]) {
            let path = path.child("ipMode");
            super::read::one_of(&ingress["ipMode"], &["Proxy", "VIP"], &path, errors);
            if is_empty(&ingress["ip"]) {
                errors.forbidden(&path, "may not be specified when `ip` is not set");
            }
        }
        let hostname = text(&ingress["hostname"]);
        if !hostname.is_empty() {
            if let Some(problem) = names::dns1123_subdomain(hostname) {
                errors.invalid(&path.child("hostname"), hostname, problem);
            }
            if parse_ip(hostname).is_some() {
                errors.invalid(&path.child("hostname"), hostname, "must be a DNS name, not an IP address");
            }
        }
    }
}
