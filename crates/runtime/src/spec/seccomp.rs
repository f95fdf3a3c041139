//! Seccomp profiles: the default one, and those that a pod names.

use std::fs;
use std::path::Path;

use k8s_cri::v1::security_profile::ProfileType;
use k8s_cri::v1::{LinuxContainerSecurityContext, SecurityProfile};
use serde_json::{Value, json};

use crate::{Error, Result};

const DEFAULT: &str = include_str!("seccomp_default.txt");

/// Flags of clone(2) that make namespaces.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
const ENOSYS: u32 = 38;
/// Virtual machine sockets: they are not in a network namespace.
const AF_VSOCK: u32 = 40;

/// What a container asks for, in either of the fields that there are for it.
#[expect(deprecated, reason = "older clients set the one field, newer ones the other")]
pub fn wanted(context: &LinuxContainerSecurityContext) -> Result<Option<SecurityProfile>> {
    if let Some(profile) = &context.seccomp {
        return Ok(Some(profile.clone()));
    }
    let path = context.seccomp_profile_path.as_str();
    let (kind, localhost_ref) = match path {
        "" | "unconfined" => return Ok(None),
        "runtime/default" | "docker/default" => (ProfileType::RuntimeDefault, ""),
        _ => match path.strip_prefix("localhost/") {
            Some(file) => (ProfileType::Localhost, file),
            None => {
                return Err(Error::InvalidArgument(format!(
                    "seccomp profile {path:?} is none that there is"
                )));
            }
        },
    };
    Ok(Some(SecurityProfile { profile_type: kind as i32, localhost_ref: localhost_ref.to_owned() }))
}

/// The `linux.seccomp` of a container with these capabilities; `None` for no restriction.
pub fn profile(
    profile: Option<&SecurityProfile>,
    privileged: bool,
    capabilities: &[String],
) -> Result<Option<Value>> {
    let Some(profile) = profile else { return Ok(None) };
    if privileged {
        return Ok(None);
    }
    match profile.profile_type() {
        ProfileType::Unconfined => Ok(None),
        ProfileType::RuntimeDefault => Ok(Some(default_profile(capabilities))),
        ProfileType::Localhost => {
            let path = profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref);
            local(Path::new(path)).map(Some)
        }
    }
}

fn local(path: &Path) -> Result<Value> {
    if !path.is_absolute() {
        return Err(Error::InvalidArgument(format!(
            "seccomp profile {} is not an absolute path",
            path.display()
        )));
    }
    let text = fs::read_to_string(path).map_err(Error::io("read seccomp profile", path))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::InvalidArgument(format!("seccomp profile {} is not valid JSON: {e}", path.display()))
    })
}

fn default_profile(capabilities: &[String]) -> Value {
    let has = |capability: &str| capabilities.iter().any(|c| c == capability);
    let mut names = Vec::new();
    let mut included = false;
    for line in DEFAULT.lines().filter(|l| !l.starts_with('#')) {
        match line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            Some(section) => included = section == "any" || has(section),
            None if included => names.extend(line.split_ascii_whitespace()),
            None => {}
        }
    }
    let argument =
        |index: u32, value: u32, operator: &str| json!({"index": index, "value": value, "op": operator});
    let mut rules = vec![
        json!({"names": names, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [argument(0, AF_VSOCK, "SCMP_CMP_NE")]}),
    ];
    // Linux, 16-bit uid emulation, UNAME26 on top of each, and "only tell me".
    for persona in [0, 0x8, 0x2_0000, 0x2_0008, u32::MAX] {
        rules.push(json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [argument(0, persona, "SCMP_CMP_EQ")]}));
    }
    if !has("CAP_SYS_ADMIN") {
        let masked = json!({"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"});
        rules.push(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [masked]}));
        // Its flags are behind a pointer, where a filter cannot look: programs fall back to clone.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

fn architectures() -> &'static [&'static str] {
    if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(capabilities: &[&str], name: &str) -> bool {
        let capabilities: Vec<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
        let profile = default_profile(&capabilities);
        let names = profile["syscalls"][0]["names"].as_array().cloned().unwrap_or_default();
        names.iter().any(|n| n == name)
    }

    #[test]
    fn dangerous_calls_need_their_capability() {
        for (name, capability) in [
            ("mount", "CAP_SYS_ADMIN"),
            ("setns", "CAP_SYS_ADMIN"),
            ("reboot", "CAP_SYS_BOOT"),
            ("init_module", "CAP_SYS_MODULE"),
            ("open_by_handle_at", "CAP_DAC_READ_SEARCH"),
            ("settimeofday", "CAP_SYS_TIME"),
        ] {
            assert!(!allowed(&[], name), "{name}");
            assert!(allowed(&[capability], name), "{name} with {capability}");
        }
        for name in ["kexec_load", "keyctl", "add_key", "userfaultfd", "io_uring_setup", "clone", "clone3"] {
            assert!(!allowed(&["CAP_CHOWN"], name), "{name}");
        }
        for name in ["read", "execve", "futex", "openat2"] {
            assert!(allowed(&[], name), "{name}");
        }
    }
}
