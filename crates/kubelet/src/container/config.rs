//! The CRI configuration of one container.

use std::collections::HashMap;
use std::path::Path;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use sha2::{Digest, Sha256};

use super::expand::expand;
use super::resources::NodeDefaults;
use super::{resources, security};
use crate::cri::view::keys;
use crate::devices::Extras;
use crate::pod::ext::PodExt;
use crate::users::Block;

/// Everything that had to be found out before a container can be described.
pub struct Found<'a> {
    pub attempt: u32,
    /// The image as the runtime knows it.
    pub image: &'a str,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<cri::Mount>,
    pub devices: Vec<cri::Device>,
    /// What comes along with the devices that it was given.
    pub extras: Extras,
    /// The IDs of a pod with a user namespace.
    pub block: Option<Block>,
    /// The CPUs that it may run on; all when empty.
    pub cpuset: String,
    /// The NUMA nodes that its memory comes from; any when empty.
    pub memory_nodes: String,
    /// Some of the CPUs are its own.
    pub own_cpus: bool,
    pub node: NodeDefaults,
    pub seccomp_root: &'a Path,
    pub seccomp_default: bool,
    /// The image, where its user has to be known.
    pub image_user: Option<&'a cri::Image>,
    /// For an ephemeral container: the container whose processes it wants to see.
    pub target: Option<&'a str>,
}

pub fn config(pod: &Pod, container: &Container, found: Found<'_>) -> cri::ContainerConfig {
    let value_of = |name: &str| {
        let known = found.env.iter().find(|(known, _)| known == name);
        known.map(|(_, value)| value.clone())
    };
    let expanded = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, value_of)).collect()
    };
    let name = &container.name;
    let mut security_context =
        security::container(pod, container, found.seccomp_root, found.seccomp_default, found.block);
    if let (None, Some(image)) = (&security_context.run_as_user, found.image_user) {
        // The CRI allows a group only beside a user.
        security_context.run_as_user.clone_from(&image.uid);
        security_context.run_as_username.clone_from(&image.username);
        if security_context.run_as_user.is_none() && image.username.is_empty() {
            security_context.run_as_user = Some(cri::Int64Value { value: 0 });
        }
    }
    if let (Some(target), Some(options)) = (found.target, &mut security_context.namespace_options) {
        options.pid = cri::NamespaceMode::Target as i32;
        options.target_id = target.to_owned();
    }
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let mut linux_resources = resources::linux(pod, container, &found.node);
    linux_resources.cpuset_cpus = found.cpuset;
    linux_resources.cpuset_mems = found.memory_nodes;
    if found.own_cpus {
        // Whose CPUs nobody else uses needs no quota, which would only hold it up.
        linux_resources.cpu_quota = -1;
    }
    let extras = found.extras;
    let mut annotations = annotations(pod, container, found.attempt);
    annotations.extend(extras.annotations);
    let mut envs: Vec<cri::KeyValue> =
        found.env.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect();
    envs.extend(extras.envs.into_iter().map(|(key, value)| cri::KeyValue { key, value }));
    let mut mounts = found.mounts;
    mounts.extend(extras.mounts.into_iter().map(|mount| cri::Mount {
        container_path: mount.container_path,
        host_path: mount.host_path,
        readonly: mount.read_only,
        ..Default::default()
    }));
    if let Some(block) = found.block {
        // What is root's on the node is root's in the pod. Images are mapped by the runtime.
        for mount in mounts.iter_mut().filter(|mount| mount.image.is_none()) {
            mount.uid_mappings = block.mappings();
            mount.gid_mappings = block.mappings();
        }
    }
    let mut devices = found.devices;
    devices.extend(extras.devices.into_iter().map(|device| cri::Device {
        container_path: device.container_path,
        host_path: device.host_path,
        permissions: device.permissions,
    }));
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.clone(), attempt: found.attempt }),
        image: Some(cri::ImageSpec {
            image: found.image.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        devices,
        cdi_devices: extras.cdi_devices.into_iter().map(|name| cri::CdiDevice { name }).collect(),
        labels: labels(pod, container),
        annotations,
        log_path: log_path(name, found.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(linux_resources),
            security_context: Some(security_context),
        }),
        stop_signal: stop_signal(container) as i32,
        envs,
        ..Default::default()
    }
}

/// `lifecycle.stopSignal`; the image's, when nothing is said.
fn stop_signal(container: &Container) -> cri::Signal {
    let name = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    // SIGRTMIN+3 in the API.
    let name = name.unwrap_or_default().replace('+', "PLUS").replace("SIGRTMAX-", "SIGRTMAXMINUS");
    cri::Signal::from_str_name(&name).unwrap_or(cri::Signal::RuntimeDefault)
}

/// A signal of the runtime's, as the API names it; nothing when it does not tell.
pub fn signal_name(signal: i32) -> Option<String> {
    let signal =
        cri::Signal::try_from(signal).ok().filter(|signal| *signal != cri::Signal::RuntimeDefault)?;
    Some(signal.as_str_name().replace("PLUS", "+").replace("MINUS", "-"))
}

/// Below the pod's log directory.
pub fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

fn labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    [
        (keys::POD_NAME, pod.name()),
        (keys::POD_NAMESPACE, pod.namespace()),
        (keys::POD_UID, pod.uid()),
        (keys::CONTAINER_NAME, container.name.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

fn annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let message_path = container.termination_message_path.as_deref().unwrap_or_default();
    let message_policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let mut annotations: HashMap<String, String> = [
        (keys::HASH, hash(container)),
        (keys::RESTART_COUNT, attempt.to_string()),
        (keys::MESSAGE_PATH, message_path.to_owned()),
        (keys::MESSAGE_POLICY, message_policy.to_owned()),
        (keys::POD_GRACE, pod.grace().to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(ports) = &container.ports
        && let Ok(text) = serde_json::to_string(ports)
    {
        annotations.insert(keys::PORTS.to_owned(), text);
    }
    annotations
}

/// Tells whether a container was made from the same image and name.
fn hash(container: &Container) -> String {
    let mut hasher = Sha256::new();
    hasher.update(container.name.as_bytes());
    hasher.update([0]);
    hasher.update(container.image.as_deref().unwrap_or_default().as_bytes());
    let digest = hasher.finalize();
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
