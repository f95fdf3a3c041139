//! Pods and pod templates.

use super::container::{container, host_ports, requests_from_limits};
use super::edit::{Object, each, ensure, get, is_true, set, set_text};
use super::{quantities, volume};

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub fn pod(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    pod_spec(spec);
    set(spec, "enableServiceLinks", true);
    for list in ["initContainers", "containers"] {
        each(spec, list, requests_from_limits);
    }
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
