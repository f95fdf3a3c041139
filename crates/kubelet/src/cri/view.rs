//! A pod as the runtime sees it: sandboxes and containers, reduced to what decisions are made from.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_cri::v1 as cri;

/// Labels and annotations that upstream's kubelet puts on sandboxes and containers; tools and a restarted
/// kubelet of either make find pods by them.
pub mod keys {
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    pub const HASH: &str = "io.kubernetes.container.hash";
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
    pub const PORTS: &str = "io.kubernetes.container.ports";
}

/// Ordered as a container lives: a later state never goes back to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Created,
    Running,
    Exited,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    /// How often the container of this name had been restarted when this one was made.
    pub restart_count: u32,
    pub state: State,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    /// The reference it was made with, and the ID of what that meant.
    pub image: String,
    pub image_id: String,
    pub log_path: String,
    /// The file on the node behind `terminationMessagePath`, and the policy.
    pub message_file: Option<String>,
    pub message_policy: String,
    pub user: Option<cri::LinuxContainerUser>,
    pub resources: Option<cri::LinuxContainerResources>,
    /// By its name in the API, where the runtime tells.
    pub stop_signal: Option<String>,
    /// The images that it mounts, by where.
    pub images: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: Timestamp,
    pub ips: Vec<String>,
}

/// What is known of one pod's sandboxes and containers, in whatever order news of them came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    pub sandboxes: HashMap<String, Sandbox>,
    pub containers: HashMap<String, Container>,
}

impl PodView {
    /// Takes in newer (or older, or the same) knowledge: neither a container nor a sandbox is ever revived by
    /// a late message.
    pub fn merge(&mut self, news: PodView) {
        for (id, sandbox) in news.sandboxes {
            match self.sandboxes.get_mut(&id) {
                Some(known) => {
                    let ready = known.ready && sandbox.ready;
                    let ips =
                        if sandbox.ips.is_empty() { std::mem::take(&mut known.ips) } else { sandbox.ips };
                    *known = Sandbox { ready, ips, ..sandbox };
                }
                None => {
                    self.sandboxes.insert(id, sandbox);
                }
            }
        }
        for (id, container) in news.containers {
            match self.containers.get(&id) {
                Some(known) if known.state > container.state => {}
                // The message of an exited one may have been completed from its file since.
                Some(known) if known.state == State::Exited && container.state == State::Exited => {}
                _ => {
                    self.containers.insert(id, container);
                }
            }
        }
    }

    /// The runtime has these no more: none of them runs.
    pub fn lost(&mut self, ids: &[String], now: Timestamp) {
        for id in ids {
            if let Some(sandbox) = self.sandboxes.get_mut(id) {
                sandbox.ready = false;
            }
            if let Some(container) = self.containers.get_mut(id).filter(|c| c.state != State::Exited) {
                container.end_unseen(now);
            }
        }
    }

    /// The sandbox of the newest attempt.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.values().max_by_key(|sandbox| (sandbox.attempt, sandbox.created_at))
    }

    /// The containers of that name, newest first.
    pub fn named(&self, name: &str) -> Vec<&Container> {
        let mut found: Vec<&Container> =
            self.containers.values().filter(|container| container.name == name).collect();
        found.sort_by_key(|container| std::cmp::Reverse((container.restart_count, container.created_at)));
        found
    }
}

fn nanoseconds(at: i64) -> Option<Timestamp> {
    (at > 0).then(|| Timestamp::from_nanosecond(i128::from(at)).ok()).flatten()
}

impl Sandbox {
    pub fn new(status: cri::PodSandboxStatus) -> Self {
        let metadata = status.metadata.unwrap_or_default();
        let network = status.network.unwrap_or_default();
        let mut ips = Vec::new();
        if !network.ip.is_empty() {
            ips.push(network.ip);
            ips.extend(network.additional_ips.into_iter().map(|ip| ip.ip));
        }
        Self {
            ready: status.state == cri::PodSandboxState::SandboxReady as i32,
            id: status.id,
            attempt: metadata.attempt,
            created_at: nanoseconds(status.created_at).unwrap_or_default(),
            ips,
        }
    }
}

impl Container {
    /// It has certainly ended, though nobody saw how.
    pub fn end_unseen(&mut self, now: Timestamp) {
        self.state = State::Exited;
        self.exit_code = 137;
        self.reason = "ContainerStatusUnknown".into();
        self.message = "The container could not be located when the pod was terminated".into();
        self.finished_at = Some(now);
    }

    pub fn new(sandbox_id: &str, status: cri::ContainerStatus) -> Self {
        let metadata = status.metadata.unwrap_or_default();
        let state = match cri::ContainerState::try_from(status.state) {
            Ok(cri::ContainerState::ContainerCreated) => State::Created,
            Ok(cri::ContainerState::ContainerRunning) => State::Running,
            Ok(cri::ContainerState::ContainerExited) => State::Exited,
            // A container that its runtime lost cannot be waited for.
            Ok(cri::ContainerState::ContainerUnknown) | Err(_) => State::Exited,
        };
        let message_file = status
            .annotations
            .get(keys::MESSAGE_PATH)
            .and_then(|path| {
                let is_it = |mount: &&cri::Mount| mount.container_path == *path;
                status.mounts.iter().find(is_it)
            })
            .map(|mount| mount.host_path.clone());
        let mounts = status.mounts.iter();
        let images = mounts
            .filter_map(|mount| Some((mount.container_path.clone(), mount.image.as_ref()?.image.clone())));
        let images = images.filter(|(_, image)| !image.is_empty()).collect();
        let name = status.labels.get(keys::CONTAINER_NAME).cloned().unwrap_or(metadata.name);
        let restart_count = status
            .annotations
            .get(keys::RESTART_COUNT)
            .and_then(|count| count.parse().ok())
            .unwrap_or(metadata.attempt);
        let image_id = if status.image_ref.is_empty() { status.image_id } else { status.image_ref };
        Self {
            id: status.id,
            sandbox_id: sandbox_id.to_owned(),
            name,
            restart_count,
            state,
            created_at: nanoseconds(status.created_at).unwrap_or_default(),
            started_at: nanoseconds(status.started_at),
            finished_at: nanoseconds(status.finished_at),
            exit_code: status.exit_code,
            reason: status.reason,
            message: status.message,
            image: status.image.map(|image| image.image).unwrap_or_default(),
            image_id,
            log_path: status.log_path,
            message_file,
            message_policy: status.annotations.get(keys::MESSAGE_POLICY).cloned().unwrap_or_default(),
            user: status.user.and_then(|user| user.linux),
            resources: status.resources.and_then(|resources| resources.linux),
            stop_signal: crate::container::config::signal_name(status.stop_signal),
            images,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, restart_count: i32, state: cri::ContainerState) -> Container {
        let status = cri::ContainerStatus {
            id: id.into(),
            state: state as i32,
            metadata: Some(cri::ContainerMetadata { name: "c".into(), attempt: restart_count as u32 }),
            ..Default::default()
        };
        Container::new("sandbox", status)
    }

    fn view(containers: &[Container]) -> PodView {
        PodView {
            containers: containers
                .iter()
                .map(|container| (container.id.clone(), container.clone()))
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn late_news_does_not_revive() {
        use cri::ContainerState::{ContainerExited, ContainerRunning};
        let mut known = view(&[container("a", 0, ContainerExited)]);
        known.merge(view(&[container("a", 0, ContainerRunning)]));
        assert_eq!(known.containers["a"].state, State::Exited);
    }

    #[test]
    fn images_that_are_mounted() {
        let mount = |path: &str, image: Option<&str>| cri::Mount {
            container_path: path.into(),
            image: image.map(|image| cri::ImageSpec { image: image.into(), ..Default::default() }),
            ..Default::default()
        };
        let status = cri::ContainerStatus {
            mounts: vec![mount("/a", Some("sha256:1")), mount("/b", None), mount("/c", Some(""))],
            ..Default::default()
        };
        let images = Container::new("sandbox", status).images;
        assert_eq!(images, [("/a".to_owned(), "sha256:1".to_owned())].into());
    }

    #[test]
    fn newest_first() {
        use cri::ContainerState::ContainerExited;
        let known = view(&[
            container("a", 0, ContainerExited),
            container("c", 2, ContainerExited),
            container("b", 1, ContainerExited),
        ]);
        let ids: Vec<&str> = known.named("c").iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["c", "b", "a"]);
    }
}
