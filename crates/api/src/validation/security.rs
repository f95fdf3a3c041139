//! Security contexts of pods and containers.

use super::read::{given, in_range, invalid_if, is_true, items, one_of, required, text};
use super::{names, windows};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const MAX_ID: i64 = i32::MAX as i64;
const MAX_SEARCH_CHARS: usize = 2048;
/// As long as a path may be.
const MAX_PROFILE: usize = 4095;

fn ids(context: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        in_range(&context[field], 0, MAX_ID, &path.child(field), errors);
    }
}

fn profile(profile: &Value, kind: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(profile) {
        return;
    }
    let local = &profile["localhostProfile"];
    match text(&profile["type"]) {
        "" => {
            let field = if kind == "seccomp" { "seccompProfile" } else { "appArmorProfile" };
            errors.required(&path.child("type"), format!("type is required when {field} is set"));
        }
        "Localhost" => {
            if text(local).is_empty() {
                errors.required(
                    &path.child("localhostProfile"),
                    format!("must be set when {kind} type is Localhost"),
                );
            } else if kind == "seccomp" {
                descending(local, &path.child("localhostProfile"), errors);
            } else if text(local).trim() != text(local) {
                errors.invalid(
                    &path.child("localhostProfile"),
                    local.clone(),
                    "must not be padded with whitespace",
                );
            } else if text(local).len() > MAX_PROFILE {
                errors.too_long(&path.child("localhostProfile"), MAX_PROFILE);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if given(local) {
                let detail = format!("can only be set when {kind} type is Localhost");
                errors.invalid(&path.child("localhostProfile"), local.clone(), detail);
            }
        }
        other => {
            errors.not_supported(&path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"])
        }
    }
}

/// A relative path that does not climb out of its directory.
pub fn descending(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let text = text(value);
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(value, path, errors);
}

pub fn no_backsteps(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if text(value).split('/').any(|part| part == "..") {
        errors.invalid(path, value.clone(), "must not contain '..'");
    }
}

pub fn pod(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let context = &spec["securityContext"];
    let path = path.child("securityContext");
    if is_true(&spec["shareProcessNamespace"]) && is_true(&spec["hostPID"]) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    if !given(context) {
        return;
    }
    ids(context, &path, errors);
    let groups = path.child("supplementalGroups");
    for (i, group) in items(&context["supplementalGroups"]).iter().enumerate() {
        in_range(group, 0, MAX_ID, &groups.index(i), errors);
    }
    one_of(
        &context["fsGroupChangePolicy"],
        &["Always", "OnRootMismatch"],
        &path.child("fsGroupChangePolicy"),
        errors,
    );
    one_of(
        &context["supplementalGroupsPolicy"],
        &["Merge", "Strict"],
        &path.child("supplementalGroupsPolicy"),
        errors,
    );
    one_of(
        &context["seLinuxChangePolicy"],
        &["MountOption", "Recursive"],
        &path.child("seLinuxChangePolicy"),
        errors,
    );
    profile(&context["seccompProfile"], "seccomp", &path.child("seccompProfile"), errors);
    profile(&context["appArmorProfile"], "AppArmor", &path.child("appArmorProfile"), errors);
    sysctls(context, &path.child("sysctls"), errors);
    windows::options(&context["windowsOptions"], &path.child("windowsOptions"), errors);
}

fn sysctls(context: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (i, sysctl) in items(&context["sysctls"]).iter().enumerate() {
        let path = path.index(i);
        let name = text(&sysctl["name"]);
        let path = path.child("name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(name) {
            errors.invalid(
                &path,
                name,
                "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            );
        } else if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let word = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let b = part.as_bytes();
            word(b.first())
                && word(b.last())
                && b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_'))
        })
}

pub fn container(context: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(context) {
        return;
    }
    ids(context, path, errors);
    one_of(&context["procMount"], &["Default", "Unmasked"], &path.child("procMount"), errors);
    profile(&context["seccompProfile"], "seccomp", &path.child("seccompProfile"), errors);
    profile(&context["appArmorProfile"], "AppArmor", &path.child("appArmorProfile"), errors);
    windows::options(&context["windowsOptions"], &path.child("windowsOptions"), errors);
    if context["allowPrivilegeEscalation"] == Value::Bool(false) {
        if is_true(&context["privileged"]) {
            errors.invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        if items(&context["capabilities"]["add"]).iter().any(|c| text(c) == "CAP_SYS_ADMIN") {
            errors.invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
}

/// DNS settings and host aliases, which also decide whom a pod talks to.
pub fn dns(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let policy = text(&spec["dnsPolicy"]);
    if !policy.is_empty() {
        let allowed = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
        one_of(&spec["dnsPolicy"], &allowed, &path.child("dnsPolicy"), errors);
    }
    let config = &spec["dnsConfig"];
    let config_path = path.child("dnsConfig");
    let servers = items(&config["nameservers"]);
    let servers_path = config_path.child("nameservers");
    if policy == "None" && servers.is_empty() {
        let field = if given(config) { servers_path } else { config_path };
        errors.required(&field, "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
    if servers.len() > 3 {
        errors.invalid(&servers_path, config["nameservers"].clone(), "must not have more than 3 nameservers");
    }
    for (i, server) in servers.iter().enumerate() {
        super::read::ip(server, &servers_path.index(i), errors);
    }
    let searches = items(&config["searches"]);
    let searches_path = config_path.child("searches");
    if searches.len() > 32 {
        errors.invalid(&searches_path, config["searches"].clone(), "must not have more than 32 search paths");
    }
    let together: usize = searches.iter().map(|search| text(search).len()).sum();
    if together + searches.len().saturating_sub(1) > MAX_SEARCH_CHARS {
        errors.invalid(
            &searches_path,
            config["searches"].clone(),
            format!(
                "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
            ),
        );
    }
    for (i, search) in searches.iter().enumerate() {
        let name = text(search).trim_end_matches('.');
        if name.is_empty() && text(search) == "." {
            continue;
        }
        let name = name.replace('_', "-");
        invalid_if(names::dns1123_subdomain(&name), search, &searches_path.index(i), errors);
    }
    let options = config_path.child("options");
    for (i, option) in items(&config["options"]).iter().enumerate() {
        required(&option["name"], &options.index(i), errors);
    }
    let aliases = path.child("hostAliases");
    for (i, alias) in items(&spec["hostAliases"]).iter().enumerate() {
        let path = aliases.index(i);
        super::read::ip(&alias["ip"], &path.child("ip"), errors);
        let hosts = path.child("hostnames");
        for host in items(&alias["hostnames"]) {
            invalid_if(names::dns1123_subdomain(text(host)), host, &hosts, errors);
        }
    }
}
