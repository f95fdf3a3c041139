//! What a pod shares with its host, and what its operating system knows.

use super::names;
use super::read::{given, is_true, items, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

pub fn host(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    user_namespace(spec, path, errors);
    operating_system(spec, path, errors);
    name(spec, path, errors);
}

/// A pod with users of its own cannot share the host's namespaces.
fn user_namespace(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let own_users = spec["hostUsers"] == Value::Bool(false);
    if own_users {
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if is_true(&spec[field]) {
                errors.forbidden(&path.child(field), "when `hostUsers` is false");
            }
        }
        return;
    }
    for list in ["initContainers", "containers"] {
        let list_path = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            if text(&container["securityContext"]["procMount"]) == "Unmasked" {
                let path = list_path.index(i);
                let context = path.child("securityContext");
                let why = "`hostUsers` must be false to use `Unmasked`";
                errors.invalid(&context.child("procMount"), "Unmasked", why);
            }
        }
    }
}

const NOT_ON_WINDOWS: [&str; 8] = [
    "seLinuxOptions",
    "seccompProfile",
    "appArmorProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
];
const CONTAINER_NOT_ON_WINDOWS: [&str; 10] = [
    "seLinuxOptions",
    "seccompProfile",
    "appArmorProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

fn operating_system(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let os = text(&spec["os"]["name"]);
    let (pod_fields, container_fields, why): (&[&str], &[&str], &str) = match os {
        "linux" => {
            (&["windowsOptions"], &["windowsOptions"], "windows options cannot be set for a linux pod")
        }
        "windows" => (&NOT_ON_WINDOWS, &CONTAINER_NOT_ON_WINDOWS, "cannot be set for a windows pod"),
        _ => (&[], &[], ""),
    };
    let context = path.child("securityContext");
    for field in pod_fields {
        if given(&spec["securityContext"][*field]) {
            errors.forbidden(&context.child(field), why);
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list_path = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            let path = list_path.index(i);
            let context = path.child("securityContext");
            for field in container_fields {
                if given(&container["securityContext"][*field]) {
                    errors.forbidden(&context.child(field), why);
                }
            }
            if given(&container["lifecycle"]["stopSignal"]) && os.is_empty() {
                let lifecycle = path.child("lifecycle");
                let why = "may not be set for containers with empty `spec.os.name`";
                errors.forbidden(&lifecycle.child("stopSignal"), why);
            }
        }
    }
}

fn name(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let wanted = &spec["hostnameOverride"];
    if !given(wanted) {
        return;
    }
    let path = path.child("hostnameOverride");
    if text(wanted).len() > 64 {
        errors.too_long(&path, 64);
    } else if let Some(problem) = names::dns1123_subdomain(text(wanted)) {
        errors.invalid(&path, wanted.clone(), problem);
    }
    if is_true(&spec["hostNetwork"]) {
        errors.forbidden(&path, "may not be set when hostNetwork is true");
    }
    if is_true(&spec["setHostnameAsFQDN"]) {
        errors.forbidden(&path, "may not be set when setHostnameAsFQDN is true");
    }
}
