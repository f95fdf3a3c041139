//! Security contexts: the pod's and the container's laid over each other, as CRI has them.

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, SELinuxOptions, SeccompProfile};

use crate::pod::ext::PodExt;
use crate::users::Block;

pub fn run_as_user(pod: &Pod, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
    own.or_else(|| pod.pod_spec().security_context.as_ref()?.run_as_user)
}

fn run_as_group(pod: &Pod, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_group);
    own.or_else(|| pod.pod_spec().security_context.as_ref()?.run_as_group)
}

fn must_not_be_root(pod: &Pod, container: &Container) -> bool {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_non_root);
    own.or_else(|| pod.pod_spec().security_context.as_ref()?.run_as_non_root).unwrap_or(false)
}

/// Whether only the image can tell which user the container will be, and somebody has to know.
pub fn depends_on_image_user(pod: &Pod, container: &Container) -> bool {
    run_as_user(pod, container).is_none()
        && (must_not_be_root(pod, container) || run_as_group(pod, container).is_some())
}

/// `runAsNonRoot`, in upstream's words. `image` is needed when the pod does not name a user.
pub fn verify_non_root(pod: &Pod, container: &Container, image: Option<&cri::Image>) -> Result<(), String> {
    if !must_not_be_root(pod, container) {
        return Ok(());
    }
    let place = format!("pod: {:?}, container: {}", pod.full_name(), container.name);
    match run_as_user(pod, container) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy ({place})")),
        Some(_) => return Ok(()),
        None => {}
    }
    match image {
        Some(image) if image.uid.as_ref().is_some_and(|uid| uid.value != 0) => Ok(()),
        Some(image) if image.uid.is_none() && !image.username.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root ({place})",
            image.username
        )),
        _ => Err(format!("container has runAsNonRoot and image will run as root ({place})")),
    }
}

/// `block` are the IDs of a pod with a user namespace.
pub fn namespaces(pod: &Pod, pid_default: cri::NamespaceMode, block: Option<Block>) -> cri::NamespaceOption {
    let spec = pod.pod_spec();
    let node_or = |node: bool, other: cri::NamespaceMode| {
        let mode = if node { cri::NamespaceMode::Node } else { other };
        mode as i32
    };
    let pid = if spec.share_process_namespace == Some(true) { cri::NamespaceMode::Pod } else { pid_default };
    cri::NamespaceOption {
        network: node_or(pod.host_network(), cri::NamespaceMode::Pod),
        ipc: node_or(spec.host_ipc == Some(true), cri::NamespaceMode::Pod),
        pid: node_or(spec.host_pid == Some(true), pid),
        target_id: String::new(),
        userns_options: block.map(|block| cri::UserNamespace {
            mode: cri::NamespaceMode::Pod as i32,
            uids: block.mappings(),
            gids: block.mappings(),
        }),
    }
}

/// For the sandbox: what holds for the pod as a whole.
pub fn sandbox(pod: &Pod, block: Option<Block>) -> cri::LinuxSandboxSecurityContext {
    let spec = pod.pod_spec();
    let context = spec.security_context.clone().unwrap_or_default();
    let privileged = |container: &Container| {
        let context = container.security_context.as_ref();
        context.and_then(|context| context.privileged) == Some(true)
    };
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let value = |value: Option<i64>| value.map(|value| cri::Int64Value { value });
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, cri::NamespaceMode::Container, block)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: value(context.run_as_user),
        // The CRI allows a group only beside a user.
        run_as_group: value(context.run_as_user.and(context.run_as_group)),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        privileged: all.any(privileged),
        // What keeps the namespaces needs nothing of the kernel that the default profile denies.
        seccomp: Some(cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        }),
        ..Default::default()
    }
}

pub fn container(
    pod: &Pod,
    container: &Container,
    seccomp_root: &std::path::Path,
    seccomp_default: bool,
    block: Option<Block>,
) -> cri::LinuxContainerSecurityContext {
    let own = container.security_context.clone().unwrap_or_default();
    let whole = pod.pod_spec().security_context.clone().unwrap_or_default();
    let value = |value: Option<i64>| value.map(|value| cri::Int64Value { value });
    let privileged = own.privileged == Some(true);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let unless_bare = |paths: Vec<String>| if privileged || unmasked { Vec::new() } else { paths };
    let seccomp = own.seccomp_profile.as_ref().or(whole.seccomp_profile.as_ref());
    let options = own.se_linux_options.as_ref().or(whole.se_linux_options.as_ref());
    cri::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|capabilities| cri::Capability {
            add_capabilities: capabilities.add.clone().unwrap_or_default(),
            drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces(pod, cri::NamespaceMode::Container, block)),
        selinux_options: options.map(selinux),
        run_as_user: value(run_as_user(pod, container)),
        run_as_group: value(run_as_group(pod, container)),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: unless_bare(k8s_cri::masked_paths()),
        readonly_paths: unless_bare(k8s_cri::readonly_paths()),
        apparmor: apparmor(own.app_armor_profile.as_ref().or(whole.app_armor_profile.as_ref())),
        seccomp: Some(profile(seccomp, seccomp_root, seccomp_default)),
        ..Default::default()
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    let context = pod.pod_spec().security_context.as_ref();
    let mut groups: Vec<i64> =
        context.and_then(|context| context.supplemental_groups.clone()).unwrap_or_default();
    groups.extend(context.and_then(|context| context.fs_group));
    groups
}

fn groups_policy(pod: &Pod) -> i32 {
    let context = pod.pod_spec().security_context.as_ref();
    match context.and_then(|context| context.supplemental_groups_policy.as_deref()) {
        Some("Strict") => cri::SupplementalGroupsPolicy::Strict as i32,
        _ => cri::SupplementalGroupsPolicy::Merge as i32,
    }
}

fn selinux(options: &SELinuxOptions) -> cri::SeLinuxOption {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    cri::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

/// Nothing for a pod that says nothing: where the kernel has no AppArmor, that has to work.
fn apparmor(profile: Option<&AppArmorProfile>) -> Option<cri::SecurityProfile> {
    use cri::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    let profile = profile?;
    let kind = match profile.type_.as_str() {
        "RuntimeDefault" => RuntimeDefault,
        "Localhost" => Localhost,
        _ => Unconfined,
    };
    let localhost_ref = profile.localhost_profile.clone().unwrap_or_default();
    Some(cri::SecurityProfile { profile_type: kind as i32, localhost_ref })
}

fn profile(
    profile: Option<&SeccompProfile>,
    root: &std::path::Path,
    by_default: bool,
) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    let (kind, localhost_ref) =
        match profile.map(|profile| (profile.type_.as_str(), &profile.localhost_profile)) {
            Some(("RuntimeDefault", _)) => (RuntimeDefault, String::new()),
            Some(("Localhost", Some(path))) => (Localhost, root.join(path).display().to_string()),
            None if by_default => (RuntimeDefault, String::new()),
            _ => (Unconfined, String::new()),
        };
    cri::SecurityProfile { profile_type: kind as i32, localhost_ref }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_overrides_the_pod() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "securityContext": {"runAsUser": 1, "fsGroup": 7, "supplementalGroups": [5], "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 2, "allowPrivilegeEscalation": false}}],
        }}))
        .unwrap();
        let context = container(&pod, &pod.pod_spec().containers[0], std::path::Path::new("/s"), false, None);
        assert_eq!(context.run_as_user.unwrap().value, 2);
        assert_eq!(context.supplemental_groups, [5, 7]);
        assert!(context.no_new_privs);
        assert_eq!(
            context.seccomp.unwrap().profile_type,
            cri::security_profile::ProfileType::RuntimeDefault as i32
        );
        assert!(context.masked_paths.contains(&"/proc/kcore".to_owned()));
    }

    #[test]
    fn non_root() {
        let check = |user: Option<i64>, image: Option<cri::Image>, ok: bool| {
            let pod: Pod = serde_json::from_value(json!({"spec": {
                "securityContext": {"runAsNonRoot": true, "runAsUser": user}, "containers": [{"name": "c"}],
            }}))
            .unwrap();
            let result = verify_non_root(&pod, &pod.pod_spec().containers[0], image.as_ref());
            assert_eq!(result.is_ok(), ok, "{user:?} {image:?} {result:?}");
        };
        let image = |uid: Option<i64>, username: &str| {
            Some(cri::Image {
                uid: uid.map(|value| cri::Int64Value { value }),
                username: username.into(),
                ..Default::default()
            })
        };
        check(Some(0), None, false);
        check(Some(5), None, true);
        check(None, image(Some(0), ""), false);
        check(None, image(Some(9), ""), true);
        check(None, image(None, "www"), false);
        check(None, image(None, ""), false);
    }
}
