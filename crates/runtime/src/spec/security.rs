//! Capabilities, and the paths of `/proc` and `/sys` that a container does not see or cannot write.

use std::fs;
use std::sync::LazyLock;

use k8s_cri::v1::LinuxContainerSecurityContext;

use crate::{Error, Result};

/// By number, as the kernel counts them.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What this process may give away: some machines lack some.
static AVAILABLE: LazyLock<u64> = LazyLock::new(|| {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("CapBnd:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(u64::MAX)
});

/// The capabilities of a container: permitted, effective and bounding.
pub fn capabilities(context: &LinuxContainerSecurityContext) -> Result<Vec<String>> {
    select(context, *AVAILABLE)
}

/// Those that a user who is not root keeps: in all sets.
pub fn ambient(context: &LinuxContainerSecurityContext, held: &[String]) -> Result<Vec<String>> {
    let wanted = context.capabilities.as_ref().map_or(&[][..], |c| c.add_ambient_capabilities.as_slice());
    let wanted = names(wanted)?;
    let all = wanted.iter().any(|c| c == "ALL");
    Ok(held.iter().filter(|c| all || wanted.contains(c)).cloned().collect())
}

fn select(context: &LinuxContainerSecurityContext, available: u64) -> Result<Vec<String>> {
    let wanted = context.capabilities.clone().unwrap_or_default();
    let add = names(&[wanted.add_capabilities, wanted.add_ambient_capabilities].concat())?;
    let drop = names(&wanted.drop_capabilities)?;
    let has = |list: &[String], name: &str| list.iter().any(|c| c == name || c == "ALL");
    let chosen = CAPABILITIES.iter().enumerate().filter(|(number, name)| {
        let dropped =
            drop.iter().any(|c| c == *name) || (has(&drop, name) && !add.iter().any(|c| c == *name));
        let wanted = context.privileged || has(&add, name) || DEFAULT.contains(name);
        available >> number & 1 == 1 && wanted && (context.privileged || !dropped)
    });
    Ok(chosen.map(|(_, name)| (*name).to_owned()).collect())
}

/// Takes out of an OCI configuration what a runtime would fail at here though it does no harm: lowering the OOM score
/// without the privilege. (Our shim tries and goes on.)
pub fn soften(config: &mut serde_json::Value) {
    let own = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|s| s.trim().parse::<i64>().ok());
    let privileged = *AVAILABLE & mask(&["CAP_SYS_RESOURCE".to_owned()]) != 0;
    if let Some(process) = config["process"].as_object_mut()
        && !privileged
        && process.get("oomScoreAdj").and_then(serde_json::Value::as_i64) < own
    {
        process.remove("oomScoreAdj");
    }
}

/// As the kernel counts them.
pub fn mask(names: &[String]) -> u64 {
    let bit = |name: &String| CAPABILITIES.iter().position(|c| c == name).map_or(0, |number| 1 << number);
    names.iter().map(bit).fold(0, |mask, bit| mask | bit)
}

/// In the kernel's spelling; `ALL` stands for every one.
fn names(list: &[String]) -> Result<Vec<String>> {
    let known = |given: &String| {
        let upper = given.to_ascii_uppercase();
        let full = if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if full == "ALL" || CAPABILITIES.contains(&full.as_str()) {
            Ok(full)
        } else {
            Err(Error::InvalidArgument(format!("unknown capability {given:?}")))
        }
    };
    list.iter().map(known).collect()
}

/// Masked and read-only paths: none for a privileged container, else those that are asked for. Who asks for none means
/// that in a user namespace (`procMount: Unmasked`, which the API allows there only); elsewhere he has just not said it.
pub fn hidden_paths(
    context: &LinuxContainerSecurityContext,
    user_namespace: bool,
) -> (Vec<String>, Vec<String>) {
    let said = user_namespace || !context.masked_paths.is_empty() || !context.readonly_paths.is_empty();
    match (context.privileged, said) {
        (true, _) => (Vec::new(), Vec::new()),
        (false, true) => (context.masked_paths.clone(), context.readonly_paths.clone()),
        (false, false) => (k8s_cri::masked_paths(), k8s_cri::readonly_paths()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_cri::v1::Capability;

    use super::*;

    fn check(add: &[&str], drop: &[&str], privileged: bool, expected: impl FnOnce(&[String]) -> bool) {
        let list = |c: &[&str]| c.iter().map(|c| (*c).to_owned()).collect();
        let capabilities = Some(Capability {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            ..Capability::default()
        });
        let context = LinuxContainerSecurityContext { capabilities, privileged, ..Default::default() };
        let chosen = select(&context, u64::MAX).unwrap();
        assert!(expected(&chosen), "add {add:?} drop {drop:?}: {chosen:?}");
    }

    #[test]
    fn added_and_dropped() {
        check(&[], &[], false, |c| c.len() == 14);
        check(&["NET_ADMIN"], &["chown"], false, |c| {
            c.contains(&"CAP_NET_ADMIN".into()) && !c.contains(&"CAP_CHOWN".into())
        });
        check(&["NET_BIND_SERVICE"], &["ALL"], false, |c| c == ["CAP_NET_BIND_SERVICE"]);
        check(&[], &["ALL"], false, <[String]>::is_empty);
        check(&["ALL"], &["SYS_ADMIN"], false, |c| c.len() == 40);
        check(&[], &["ALL"], true, |c| c.len() == 41);
    }

    #[test]
    fn ambient_ones_are_in_all_sets() {
        let capabilities = Some(Capability {
            add_ambient_capabilities: vec!["NET_BIND_SERVICE".into(), "SYS_TIME".into()],
            drop_capabilities: vec!["ALL".into()],
            ..Capability::default()
        });
        let context = LinuxContainerSecurityContext { capabilities, ..Default::default() };
        let held = select(&context, u64::MAX).unwrap();
        assert_eq!(held, ["CAP_NET_BIND_SERVICE", "CAP_SYS_TIME"]);
        assert_eq!(ambient(&context, &held).unwrap(), held);
        assert!(ambient(&LinuxContainerSecurityContext::default(), &held).unwrap().is_empty());
    }

    #[test]
    fn what_the_machine_lacks_is_not_given() {
        let context = LinuxContainerSecurityContext { privileged: true, ..Default::default() };
        assert_eq!(select(&context, 0b11).unwrap(), ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
    }

    #[test]
    fn unknown_ones_are_refused() {
        assert!(names(&["FLY".to_owned()]).is_err());
    }
}
