//! Short ways to say what is often asked of a pod or a container.

use std::sync::LazyLock;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

static EMPTY_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);

pub trait PodExt {
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn uid(&self) -> &str;
    /// The spec; an empty one for an object that has none.
    fn pod_spec(&self) -> &PodSpec;
    fn restart_policy(&self) -> &str;
    fn deletion(&self) -> Option<Timestamp>;
    /// `name_namespace(uid)`, as upstream's messages have it.
    fn full_name(&self) -> String;
    fn host_network(&self) -> bool;
    /// `spec.terminationGracePeriodSeconds`, 30 by default.
    fn grace(&self) -> i64;
    fn phase(&self) -> &str;
    /// A mirror of a static pod, which the kubelet runs from the file, not from the API.
    fn is_mirror(&self) -> bool;
    /// The UID by which the runtime knows the pod: of a mirror, that of the static pod.
    fn runtime_uid(&self) -> &str;
}

impl PodExt for Pod {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn pod_spec(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&EMPTY_SPEC)
    }

    fn restart_policy(&self) -> &str {
        self.pod_spec().restart_policy.as_deref().unwrap_or("Always")
    }

    fn deletion(&self) -> Option<Timestamp> {
        self.metadata.deletion_timestamp.as_ref().map(|time| time.0)
    }

    fn full_name(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    fn host_network(&self) -> bool {
        self.pod_spec().host_network == Some(true)
    }

    fn grace(&self) -> i64 {
        self.pod_spec().termination_grace_period_seconds.unwrap_or(30)
    }

    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
    }

    fn is_mirror(&self) -> bool {
        self.metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key("kubernetes.io/config.mirror"))
    }

    fn runtime_uid(&self) -> &str {
        let annotations = self.metadata.annotations.as_ref();
        annotations
            .and_then(|annotations| annotations.get("kubernetes.io/config.mirror"))
            .map_or(self.uid(), String::as_str)
    }
}

/// An ephemeral container is run like any other.
pub fn from_ephemeral(container: &EphemeralContainer) -> Container {
    let container = container.clone();
    Container {
        args: container.args,
        command: container.command,
        env: container.env,
        env_from: container.env_from,
        image: container.image,
        image_pull_policy: container.image_pull_policy,
        name: container.name,
        resources: container.resources,
        security_context: container.security_context,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        termination_message_path: container.termination_message_path,
        termination_message_policy: container.termination_message_policy,
        tty: container.tty,
        volume_mounts: container.volume_mounts,
        working_dir: container.working_dir,
        ..Default::default()
    }
}
