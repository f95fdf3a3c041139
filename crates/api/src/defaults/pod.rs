//! Pods and pod templates.

use super::container::{container, host_ports, requests_from_limits};
use super::edit::{Object, each, ensure, get, has_items, is_true, set, set_text};
use super::{quantities, volume};
use crate::pods::requests_of_containers;
use serde_json::Value;

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub fn pod(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    pod_spec(spec);
    set(spec, "enableServiceLinks", true);
    for list in ["initContainers", "containers"] {
        each(spec, list, requests_from_limits);
    }
    resources_of_pod(spec);
    if is_true(spec, "hostNetwork") {
        for list in ["initContainers", "containers"] {
            each(spec, list, host_ports);
        }
    }
    if let Some(status) = ensure(object, "status") {
        set_text(status, "phase", "Pending");
        each(status, "containerStatuses", |s| quantities::list(s, "allocatedResources"));
    }
}

/// What a pod with resources of its own does not ask for, its containers do; what they do not, its limits.
fn resources_of_pod(spec: &mut Object) {
    let has = |resources: &Object| has_items(resources, "requests") || has_items(resources, "limits");
    if !get(spec, "resources").is_some_and(|resources| has(resources)) {
        return;
    }
    let needed = requests_of_containers(spec);
    let Some(resources) = get(spec, "resources") else { return };
    let limits = resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
    let Some(requests) = ensure(resources, "requests") else { return };
    for (name, amount) in needed.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")) {
        requests.entry(name).or_insert_with(|| amount.to_string().into());
    }
    for (name, amount) in limits {
        requests.entry(name).or_insert(amount);
    }
}

/// The object that holds a `template`: a workload's spec, or a PodTemplate.
pub fn template(owner: &mut Object) {
    if let Some(spec) = get(owner, "template").and_then(|t| get(t, "spec")) {
        pod_spec(spec);
    }
}

/// What holds in pods and templates alike.
pub fn pod_spec(spec: &mut Object) {
    set_text(spec, "restartPolicy", "Always");
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "schedulerName", "default-scheduler");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "securityContext", Object::new());
    // The older name of the same field is kept for older clients.
    if super::edit::text(spec, "serviceAccountName").is_empty() {
        let old = super::edit::text(spec, "serviceAccount").to_owned();
        if !old.is_empty() {
            spec.insert("serviceAccountName".into(), old.into());
        }
    } else {
        let name = super::edit::text(spec, "serviceAccountName").to_owned();
        spec.insert("serviceAccount".into(), name.into());
    }
    for list in CONTAINER_LISTS {
        each(spec, list, container);
    }
    each(spec, "volumes", volume::volume);
    quantities::list(spec, "overhead");
    if let Some(resources) = get(spec, "resources") {
        quantities::requirements(resources);
    }
}
