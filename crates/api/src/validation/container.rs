//! Containers: of the usual sort, init and ephemeral.

use super::names;
use super::read::{given, invalid_if, items, one_of, port, required, text};
use super::{env, probe, resources, restart, security, volume};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Regular,
    Init,
    Ephemeral,
}

/// What containers have to know of their pod.
pub struct Pod<'a> {
    pub volumes: volume::Volumes<'a>,
    pub restart_policy: &'a str,
    pub grace_period: i64,
}

pub fn container(c: &Value, sort: Sort, pod: &Pod<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = &c["name"];
    if text(name).is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        invalid_if(names::dns1123_label(text(name)), name, &path.child("name"), errors);
    }
    image(c, path, errors);
    one_of(
        &c["imagePullPolicy"],
        &["Always", "IfNotPresent", "Never"],
        &path.child("imagePullPolicy"),
        errors,
    );
    one_of(
        &c["terminationMessagePolicy"],
        &["FallbackToLogsOnError", "File"],
        &path.child("terminationMessagePolicy"),
        errors,
    );
    restart::restart(c, sort, path, errors);
    restart::resize(c, sort, pod.restart_policy, path, errors);
    ports(&c["ports"], &path.child("ports"), errors);
    env::variables(&c["env"], &path.child("env"), errors);
    env::env_from(&c["envFrom"], &path.child("envFrom"), errors);
    volume::mounts(c, &pod.volumes, path, errors);
    resources::requirements(&c["resources"], &path.child("resources"), errors);
    security::container(&c["securityContext"], &path.child("securityContext"), errors);
    lifecycle(c, sort, pod.grace_period, path, errors);
}

fn image(c: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let image = text(&c["image"]);
    let path = path.child("image");
    if image.is_empty() {
        errors.required(&path, "");
    } else if image.trim() != image {
        errors.invalid(&path, image, "must not have leading or trailing whitespace");
    }
}

fn lifecycle(c: &Value, sort: Sort, grace: i64, path: &Path<'_>, errors: &mut FieldErrors) {
    // An init container that is restarted always is a sidecar, with all that regular containers have.
    let sidecar = sort == Sort::Init && text(&c["restartPolicy"]) == "Always";
    if sort == Sort::Regular || sidecar {
        probe::probe(&c["livenessProbe"], true, &path.child("livenessProbe"), errors);
        probe::readiness(&c["readinessProbe"], &path.child("readinessProbe"), errors);
        probe::probe(&c["startupProbe"], true, &path.child("startupProbe"), errors);
        probe::lifecycle(&c["lifecycle"], grace, &path.child("lifecycle"), errors);
        return;
    }
    let why = match sort {
        Sort::Init => "may not be set for init containers without restartPolicy=Always",
        _ => "cannot be set for an Ephemeral Container",
    };
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if given(&c[field]) {
            errors.forbidden(&path.child(field), why);
        }
    }
}

fn ports(ports: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (i, p) in items(ports).iter().enumerate() {
        let path = path.index(i);
        let name = text(&p["name"]);
        if !name.is_empty() {
            let problems = names::port_name(name);
            for problem in &problems {
                errors.invalid(&path.child("name"), name, *problem);
            }
            if problems.is_empty() && !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        match p["containerPort"].as_i64() {
            None | Some(0) => errors.required(&path.child("containerPort"), ""),
            _ => port(&p["containerPort"], &path.child("containerPort"), errors),
        }
        if p["hostPort"].as_i64() != Some(0) {
            port(&p["hostPort"], &path.child("hostPort"), errors);
        }
        if given(&p["hostIP"]) && !text(&p["hostIP"]).is_empty() {
            super::read::ip(&p["hostIP"], &path.child("hostIP"), errors);
        }
        required(&p["protocol"], &path.child("protocol"), errors);
        if !text(&p["protocol"]).is_empty() {
            one_of(&p["protocol"], &["SCTP", "TCP", "UDP"], &path.child("protocol"), errors);
        }
    }
}

/// Host ports that two containers of a pod both want, and those that differ from the container's on the host network.
pub fn host_ports(containers: &Value, host_network: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (i, c) in items(containers).iter().enumerate() {
        let path = path.index(i);
        let path = path.child("ports");
        for (j, p) in items(&c["ports"]).iter().enumerate() {
            let path = path.index(j);
            let Some(host) = p["hostPort"].as_i64().filter(|n| *n != 0) else { continue };
            if host_network && p["containerPort"].as_i64() != Some(host) {
                let detail = "must match `hostPort` when `hostNetwork` is true";
                errors.invalid(&path.child("containerPort"), p["containerPort"].clone(), detail);
            }
            let key = (text(&p["protocol"]), text(&p["hostIP"]), host);
            if !seen.insert(key) {
                errors.duplicate(&path.child("hostPort"), format!("{}/{}/{}", key.0, key.1, key.2));
            }
        }
    }
}

/// What an ephemeral container may not have, since it joins a pod whose resources are settled.
pub fn ephemeral(c: &Value, targets: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["ports", "resources", "resizePolicy"] {
        let set = if field == "resources" {
            c[field].as_object().is_some_and(|r| !r.is_empty())
        } else {
            given(&c[field])
        };
        if set {
            errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
        }
    }
    let target = text(&c["targetContainerName"]);
    if !target.is_empty() && !targets.contains(&target) {
        errors.not_found(&path.child("targetContainerName"), target);
    }
    let mounts = path.child("volumeMounts");
    for (i, mount) in items(&c["volumeMounts"]).iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !text(&mount[field]).is_empty() {
                errors.forbidden(&mounts.index(i).child(field), "cannot be set for an Ephemeral Container");
            }
        }
    }
}
