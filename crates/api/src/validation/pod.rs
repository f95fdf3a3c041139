//! Pods, and the pod templates of workloads.

use super::container::{self, Sort};
use super::read::{given, in_range, invalid_if, is_empty, is_true, items, members, one_of, text};
use super::{claims, host, metadata, names, pod_resources, resources, scheduling, security, volume};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

pub fn create(pod: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    spec(&pod["spec"], &path, errors);
    let metadata = Path::new("metadata");
    let annotations = &pod["metadata"]["annotations"];
    meaningful(annotations, &Value::Null, &pod["spec"], &metadata.child("annotations"), errors);
    if !is_empty(&pod["spec"]["ephemeralContainers"]) {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !is_empty(&pod["spec"]["nodeName"]) && !is_empty(&pod["spec"]["schedulingGates"]) {
        errors
            .forbidden(&path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Annotations that mean something to the system, which a pod that has them in another shape already keeps.
pub fn meaningful(new: &Value, old: &Value, spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let cost = &new[DELETION_COST];
    if given(cost) && cost != &old[DELETION_COST] && !is_cost(text(cost)) {
        errors.invalid(&path.key(DELETION_COST), "", "must be a 32bit integer");
    }
    apparmor(new, old, spec, path, errors);
    if given(&new[MIRROR]) && text(&spec["nodeName"]).is_empty() {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), new[MIRROR].clone(), why);
    }
}

/// Profiles of containers, as they were told before they had a field.
fn apparmor(new: &Value, old: &Value, spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (key, profile) in members(new).filter(|(key, profile)| old[key.as_str()] != **profile) {
        let Some(container) = key.strip_prefix(APPARMOR) else { continue };
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        if !lists.iter().flat_map(|list| items(&spec[*list])).any(|c| text(&c["name"]) == container) {
            errors.invalid(&path.key(key), container, "container not found");
        }
        let known = matches!(text(profile), "" | "unconfined" | "runtime/default");
        if !known && !text(profile).starts_with("localhost/") {
            let why = format!("invalid AppArmor profile name: {}", crate::field::quote(text(profile)));
            errors.invalid(&path.key(key), profile.clone(), why);
        }
    }
}

/// A number as Go writes it: no plus, no leading zeros.
fn is_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|number| number.to_string() == text)
}

/// Who stands for a pod of a file does so for ever, and nobody begins to later.
pub fn mirror_update(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match (given(&old[MIRROR]), old[MIRROR] == new[MIRROR]) {
        (_, true) => {}
        (true, _) => errors.forbidden(&path.key(MIRROR), "may not remove or update mirror pod annotation"),
        (false, _) => errors.forbidden(&path.key(MIRROR), "may not add mirror pod annotation"),
    }
}

/// The `template` of a workload's spec.
pub fn template(owner: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let template = &owner["template"];
    let path = path.child("template");
    // Metadata of templates is told as if it lay beside their spec.
    metadata::labels(&template["metadata"]["labels"], &path.child("labels"), errors);
    let annotations = &template["metadata"]["annotations"];
    metadata::annotations(annotations, &path.child("annotations"), errors);
    meaningful(annotations, &Value::Null, &template["spec"], &path.child("annotations"), errors);
    let spec_path = path.child("spec");
    spec(&template["spec"], &spec_path, errors);
    if !is_empty(&template["spec"]["ephemeralContainers"]) {
        errors.forbidden(
            &spec_path.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// A template whose pods are replaced when they end.
pub fn template_restarting_always(owner: &Value, kind: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    template(owner, path, errors);
    let spec = &owner["template"]["spec"];
    let path = path.child("template");
    let path = path.child("spec");
    let policy = text(&spec["restartPolicy"]);
    // Where there is a template, one has been filled in.
    if !matches!(policy, "" | "Always") {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if given(&spec["activeDeadlineSeconds"]) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&path.child("activeDeadlineSeconds"), detail);
    }
}

pub fn spec(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let pod = container::Pod {
        volumes: volume::volumes(&spec["volumes"], &path.child("volumes"), errors),
        restart_policy: text(&spec["restartPolicy"]),
        grace_period: spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30),
    };
    containers(spec, &pod, path, errors);
    if !text(&spec["restartPolicy"]).is_empty() {
        one_of(
            &spec["restartPolicy"],
            &["Always", "OnFailure", "Never"],
            &path.child("restartPolicy"),
            errors,
        );
    }
    security::dns(spec, path, errors);
    security::pod(spec, path, errors);
    scheduling::scheduling(spec, path, errors);
    references(spec, path, errors);
    claims::claims(spec, path, errors);
    host::host(spec, path, errors);
    in_range(
        &spec["activeDeadlineSeconds"],
        1,
        i64::from(i32::MAX),
        &path.child("activeDeadlineSeconds"),
        errors,
    );
    one_of(
        &spec["preemptionPolicy"],
        &["Never", "PreemptLowerPriority"],
        &path.child("preemptionPolicy"),
        errors,
    );
    resources::amounts(&spec["overhead"], &path.child("overhead"), errors);
    pod_resources::resources(spec, path, errors);
    let gates = path.child("readinessGates");
    for (i, gate) in items(&spec["readinessGates"]).iter().enumerate() {
        let condition = &gate["conditionType"];
        let path = gates.index(i);
        invalid_if(names::qualified_name(text(condition)), condition, &path.child("conditionType"), errors);
    }
    if given(&spec["os"]) && text(&spec["os"]["name"]).is_empty() {
        errors.required(&path.child("os").child("name"), "cannot be empty");
    } else if given(&spec["os"]) {
        one_of(&spec["os"]["name"], &["linux", "windows"], &path.child("os").child("name"), errors);
    }
}

/// Names of other objects, and of the pod's host.
fn references(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        if !is_empty(&spec[field]) {
            invalid_if(
                names::dns1123_subdomain(text(&spec[field])),
                &spec[field],
                &path.child(field),
                errors,
            );
        }
    }
    for field in ["hostname", "subdomain"] {
        if !is_empty(&spec[field]) {
            invalid_if(names::dns1123_label(text(&spec[field])), &spec[field], &path.child(field), errors);
        }
    }
}

fn containers(spec: &Value, pod: &container::Pod<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let host_network = is_true(&spec["hostNetwork"]);
    let regular = path.child("containers");
    if items(&spec["containers"]).is_empty() {
        errors.required(&regular, "");
    }
    let mut seen = HashSet::new();
    for (field, sort) in [
        ("initContainers", Sort::Init),
        ("containers", Sort::Regular),
        ("ephemeralContainers", Sort::Ephemeral),
    ] {
        let list = path.child(field);
        for (i, c) in items(&spec[field]).iter().enumerate() {
            let path = list.index(i);
            container::container(c, sort, pod, &path, errors);
            let name = text(&c["name"]);
            if !name.is_empty() && !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        if sort != Sort::Ephemeral {
            container::host_ports(&spec[field], host_network, &list, errors);
        }
    }
    let list = path.child("ephemeralContainers");
    let ephemeral = items(&spec["ephemeralContainers"]);
    if !ephemeral.is_empty() {
        let targets: Vec<&str> = items(&spec["containers"])
            .iter()
            .chain(items(&spec["initContainers"]))
            .map(|c| text(&c["name"]))
            .collect();
        for (i, c) in ephemeral.iter().enumerate() {
            container::ephemeral(c, &targets, &list.index(i), errors);
        }
    }
}
