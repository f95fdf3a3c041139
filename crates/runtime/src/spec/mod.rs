//! From a CRI container to an OCI runtime configuration.

pub mod cdi;
mod filter;
pub mod layers;
pub mod mounts;
pub mod plan;
pub mod process;
mod propagation;
pub mod resources;
pub mod seccomp;
pub mod security;
pub mod signal;
pub mod user;
pub mod userns;

use std::collections::BTreeMap;
use std::path::Path;

use k8s_cri::v1::{
    ContainerConfig, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
};
use serde_json::{Value, json};

use crate::Result;
use mounts::{ImageVolume, SandboxFiles};
use process::ImageProcess;
use user::User;

/// Everything that shapes a container.
pub struct Input<'a> {
    pub sandbox_id: &'a str,
    pub sandbox: &'a PodSandboxConfig,
    pub config: &'a ContainerConfig,
    pub image: &'a ImageProcess,
    pub user: &'a User,
    pub files: &'a SandboxFiles,
    /// The images that it mounts, in the order of those mounts.
    pub images: &'a [ImageVolume],
    pub rootfs: &'a Path,
    pub cgroup: &'a str,
    pub unified_cgroup: bool,
    /// Whether the pod has one.
    pub user_namespace: bool,
    /// The profile to run under.
    pub apparmor: Option<String>,
    pub namespaces: Namespaces,
}

/// The processes whose namespaces the container joins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Namespaces {
    /// The shim, which is in the pod's network, IPC and UTS namespaces.
    pub shim: i32,
    /// Whoever is in the PID namespace to join: the pod's init, or the target container's first process.
    pub pid: Option<i32>,
}

pub fn context(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|l| l.security_context.clone()).unwrap_or_default()
}

pub fn namespace_options(sandbox: &PodSandboxConfig) -> NamespaceOption {
    let context = sandbox.linux.as_ref().and_then(|l| l.security_context.as_ref());
    context.and_then(|c| c.namespace_options.clone()).unwrap_or_default()
}

/// Whether containers of the pod may be privileged.
pub fn is_privileged(sandbox: &PodSandboxConfig) -> bool {
    let context = sandbox.linux.as_ref().and_then(|l| l.security_context.as_ref());
    context.is_some_and(|c| c.privileged)
}

/// The host's name for a pod in the host's network, else its own.
pub fn hostname(sandbox: &PodSandboxConfig) -> String {
    if sandbox.hostname.is_empty() {
        let uname = rustix::system::uname();
        uname.nodename().to_string_lossy().into_owned()
    } else {
        sandbox.hostname.clone()
    }
}

/// The `config.json` of the container's bundle.
pub fn build(input: &Input<'_>) -> Result<Value> {
    let context = context(input.config);
    let capabilities = security::capabilities(&context)?;
    let (masked, readonly) = security::hidden_paths(&context, input.user_namespace);
    let pod = namespace_options(input.sandbox);
    let mut devices = resources::devices(&input.config.devices, context.privileged)?;
    let limits = input.config.linux.as_ref().and_then(|l| l.resources.as_ref());

    let mut process = process::process(input.config, input.image, input.user, &hostname(input.sandbox))?;
    let ambient = security::ambient(&context, &capabilities)?;
    process["capabilities"] = json!({
        "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        "inheritable": ambient, "ambient": ambient,
    });
    process["noNewPrivileges"] = context.no_new_privs.into();
    if let Some(limits) = limits {
        process["oomScoreAdj"] = limits.oom_score_adj.clamp(-1000, 1000).into();
    }
    if let Some(profile) = &input.apparmor {
        process["apparmorProfile"] = profile.as_str().into();
    }

    let given = mounts::Given {
        config: input.config,
        files: input.files,
        images: input.images,
        privileged: context.privileged,
        readonly_rootfs: context.readonly_rootfs,
        mapped: input.user_namespace,
    };
    let mut mounts = mounts::mounts(&given)?;
    let limits = resources::resources(limits, &devices, context.privileged);
    let mut namespaces = namespaces(&context, &pod, input.namespaces, input.unified_cgroup);
    if input.user_namespace {
        // Root of a user namespace makes no device nodes: it gets the host's.
        mounts.extend(devices.drain(..).map(|d| mounts::device(&d)));
        namespaces.push(json!({"type": "user"}));
    }
    let mut linux = json!({
        "resources": limits,
        "cgroupsPath": input.cgroup,
        "namespaces": namespaces,
        "devices": devices.iter().map(without_access).collect::<Vec<_>>(),
        "maskedPaths": masked,
        "readonlyPaths": readonly,
        "rootfsPropagation": mounts::root_propagation(&input.config.mounts),
    });
    let wanted = seccomp::wanted(&context)?;
    if let Some(profile) = seccomp::profile(wanted.as_ref(), context.privileged, &capabilities)? {
        linux["seccomp"] = profile;
    }
    Ok(json!({
        "ociVersion": "1.1.0",
        "process": process,
        "root": {"path": input.rootfs, "readonly": context.readonly_rootfs},
        "mounts": mounts,
        "annotations": annotations(input),
        "linux": linux,
    }))
}

/// Names that OCI runtimes other than ours (Kata, gVisor) look for, and the pod's own.
fn annotations(input: &Input<'_>) -> BTreeMap<String, String> {
    let mut annotations: BTreeMap<String, String> =
        input.config.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let metadata = input.sandbox.metadata.clone().unwrap_or_default();
    let name = input.config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
    for (key, value) in [
        ("io.kubernetes.cri.container-type", "container".to_owned()),
        ("io.kubernetes.cri.container-name", name),
        ("io.kubernetes.cri.sandbox-id", input.sandbox_id.to_owned()),
        ("io.kubernetes.cri.sandbox-name", metadata.name),
        ("io.kubernetes.cri.sandbox-namespace", metadata.namespace),
        ("io.kubernetes.cri.sandbox-uid", metadata.uid),
    ] {
        annotations.insert(key.to_owned(), value);
    }
    annotations
}

fn namespaces(
    context: &LinuxContainerSecurityContext,
    pod: &NamespaceOption,
    join: Namespaces,
    unified: bool,
) -> Vec<Value> {
    let mut list = vec![json!({"type": "mount"})];
    let mut joined = |kind: &str, file: &str, process: i32| {
        list.push(json!({"type": kind, "path": format!("/proc/{process}/ns/{file}")}));
    };
    if pod.network() != NamespaceMode::Node {
        joined("network", "net", join.shim);
        joined("uts", "uts", join.shim);
    }
    if pod.ipc() != NamespaceMode::Node {
        joined("ipc", "ipc", join.shim);
    }
    let pid_mode = context.namespace_options.as_ref().map_or(pod.pid(), NamespaceOption::pid);
    match (pid_mode, join.pid) {
        (NamespaceMode::Node, _) => {}
        (NamespaceMode::Pod | NamespaceMode::Target, Some(process)) => joined("pid", "pid", process),
        _ => list.push(json!({"type": "pid"})),
    }
    if unified && !context.privileged {
        list.push(json!({"type": "cgroup"}));
    }
    list
}

fn without_access(device: &Value) -> Value {
    let mut device = device.clone();
    if let Some(object) = device.as_object_mut() {
        object.remove("access");
        object.remove("source");
    }
    device
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_valid_oci() {
        let sandbox = PodSandboxConfig { hostname: "pod".into(), ..Default::default() };
        let config = ContainerConfig { command: vec!["/bin/true".into()], ..Default::default() };
        let files = SandboxFiles {
            hostname: "/h".into(),
            hosts: "/o".into(),
            resolv_conf: "/r".into(),
            shm: "/s".into(),
        };
        let input = Input {
            sandbox_id: "s",
            sandbox: &sandbox,
            config: &config,
            image: &ImageProcess::default(),
            user: &User::default(),
            files: &files,
            images: &[],
            rootfs: Path::new("/rootfs"),
            cgroup: "/pods/c",
            unified_cgroup: true,
            user_namespace: false,
            apparmor: None,
            namespaces: Namespaces { shim: 7, pid: None },
        };
        let json = build(&input).unwrap();
        let spec: oci_spec::runtime::Spec = serde_json::from_value(json).unwrap();
        let kinds: Vec<String> = spec
            .linux()
            .as_ref()
            .and_then(|l| l.namespaces().as_ref())
            .into_iter()
            .flatten()
            .map(|n| {
                let path = n.path().as_ref().map_or_else(String::new, |p| p.display().to_string());
                format!("{}={path}", serde_json::to_value(n.typ()).unwrap().as_str().unwrap())
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "mount=",
                "network=/proc/7/ns/net",
                "uts=/proc/7/ns/uts",
                "ipc=/proc/7/ns/ipc",
                "pid=",
                "cgroup="
            ]
        );
    }
}
