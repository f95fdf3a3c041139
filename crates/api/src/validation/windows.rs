//! Pods of Windows: what their options may say, and what they cannot have.

use super::names;
use super::read::{given, is_empty, is_true, items, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const MAX_CREDENTIAL_SPEC: usize = 64 * 1024;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// `windowsOptions` of a pod or a container.
pub fn options(options: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(options) {
        return;
    }
    let name = &options["gmsaCredentialSpecName"];
    if given(name) {
        let problem = names::dns1123_subdomain(text(name));
        super::read::invalid_if(problem, name, &path.child("gmsaCredentialSpecName"), errors);
    }
    let spec = &options["gmsaCredentialSpec"];
    if given(spec) {
        let path = path.child("gmsaCredentialSpec");
        if text(spec).is_empty() {
            errors.invalid(&path, "", "gmsaCredentialSpec cannot be an empty string");
        } else if text(spec).len() > MAX_CREDENTIAL_SPEC {
            errors.invalid(&path, spec.clone(), "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(user) = options["runAsUserName"].as_str() {
        let path = path.child("runAsUserName");
        user_problems(user).into_iter().for_each(|why| errors.invalid(&path, user, why));
    }
}

/// What is wrong with `user` or `DOMAIN\user`.
fn user_problems(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".to_owned()];
    }
    if name.contains(|c: char| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".to_owned()];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".to_owned()],
    };
    let mut problems = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN {
            problems.push(format!("runAsUserName's Domain length must be under {MAX_DOMAIN} characters"));
        }
        if !is_netbios_name(domain) && !is_dns_domain(domain) {
            problems.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        problems.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > MAX_USER {
        problems.push(format!("runAsUserName's User length must not be longer than {MAX_USER} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        problems.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        problems.push(
            r#"runAsUserName's User cannot contain the following characters: ["/\:;|=,+*?<>@\[\]]"#
                .to_owned(),
        );
    }
    problems
}

fn is_netbios_name(domain: &str) -> bool {
    (1..=15).contains(&domain.len())
        && !domain.starts_with('.')
        && !domain.contains(|c: char| "\\/:*?\"<>|".contains(c) || c.is_control())
}

fn is_dns_domain(domain: &str) -> bool {
    let label = |label: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let b = label.as_bytes();
        edge(b.first()) && edge(b.last()) && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
    };
    domain.split('.').all(label)
}

/// Containers that are processes of the host: all of a pod are, or none.
pub fn host_processes(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let of = |context: &Value| context["windowsOptions"]["hostProcess"].as_bool();
    let pod = of(&spec["securityContext"]);
    let (mut all, mut of_host) = (0, 0);
    for list in LISTS {
        let list_path = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            all += 1;
            let own = of(&container["securityContext"]);
            if let (Some(pod), Some(own)) = (pod, own)
                && pod != own
            {
                let container = list_path.index(i);
                let context = container.child("securityContext");
                let options = context.child("windowsOptions");
                let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
                errors.invalid(&options.child("hostProcess"), own, why);
            }
            of_host += usize::from(own.or(pod) == Some(true));
        }
    }
    if of_host == 0 {
        return;
    }
    if of_host < all {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", why);
    }
    if !is_true(&spec["hostNetwork"]) {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, why);
    }
}

const POD_CONTEXT: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
];
const CONTAINER_CONTEXT: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Where `os` says which system a pod is for, nothing of the other one may be asked for.
pub fn operating_system(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let windows = match text(&spec["os"]["name"]) {
        "linux" => false,
        "windows" => true,
        _ => return,
    };
    let why = if windows {
        "cannot be set for a windows pod"
    } else {
        "windows options cannot be set for a linux pod"
    };
    let (of_pod, of_container): (&[&str], &[&str]) =
        if windows { (&POD_CONTEXT, &CONTAINER_CONTEXT) } else { (&["windowsOptions"], &["windowsOptions"]) };
    if windows {
        for field in ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"] {
            let choice = matches!(field, "hostUsers" | "shareProcessNamespace") && given(&spec[field]);
            if choice || is_true(&spec[field]) {
                errors.forbidden(&path.child(field), why);
            }
        }
    }
    let context = path.child("securityContext");
    for field in of_pod.iter().filter(|field| !is_empty(&spec["securityContext"][**field])) {
        errors.forbidden(&context.child(field), why);
    }
    for list in LISTS {
        let list_path = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            let container_path = list_path.index(i);
            let context = container_path.child("securityContext");
            for field in of_container.iter().filter(|field| given(&container["securityContext"][**field])) {
                errors.forbidden(&context.child(field), why);
            }
        }
    }
}
