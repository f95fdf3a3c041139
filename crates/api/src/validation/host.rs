//! What a pod shares with its host.

use super::read::{given, is_true, items, text};
use super::{names, windows};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

pub fn host(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    user_namespace(spec, path, errors);
    windows::operating_system(spec, path, errors);
    windows::host_processes(spec, path, errors);
    stop_signals(spec, path, errors);
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

/// Signals have other names and numbers on other systems.
fn stop_signals(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !text(&spec["os"]["name"]).is_empty() {
        return;
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list_path = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            if given(&container["lifecycle"]["stopSignal"]) {
                let path = list_path.index(i);
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
