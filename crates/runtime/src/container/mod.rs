//! Containers: one process tree each, in a sandbox, from an image.

mod create;
pub mod exec;
mod image_volumes;
mod remove;
mod rootfs;
mod start;
mod stop;
mod update;
mod watch;

use std::sync::Arc;

use k8s_cri::v1::{
    self as cri, ContainerConfig, ContainerResources, ContainerState, ContainerStatus, ContainerUser,
    ImageSpec, LinuxContainerUser,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch as channel;

use crate::sandbox::Sandbox;
use crate::spec::signal;
use crate::spec::user::User;
use crate::state::Runtime;
use crate::systemd::Scope;

pub use rootfs::Overlay;

pub struct Container {
    pub id: String,
    pub sandbox: Arc<Sandbox>,
    pub record: Mutex<Record>,
    /// Held while the container is started, stopped or removed.
    pub busy: tokio::sync::Mutex<()>,
    /// Held from looking at the record until it is on disk, so that the last state written is the last there was.
    saving: Mutex<()>,
    /// Whether nothing of it is left in the kernel; held while that is brought about.
    cleared: Mutex<bool>,
    /// Becomes true when it has ended.
    ended: channel::Sender<bool>,
    /// When its CPU time was last looked at, and what it was: in nanoseconds both.
    pub cpu_sample: Mutex<Option<(i64, u64)>>,
}

/// What is on disk of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub sandbox: String,
    pub config: ContainerConfig,
    /// What the container's image is called; the pod's own word where that is no bare id.
    #[serde(default)]
    pub image_name: String,
    pub image_id: String,
    pub image_ref: String,
    pub user: User,
    /// In the sandbox's log directory; empty for none.
    pub log_file: String,
    pub cgroup: String,
    pub stop_signal: i32,
    /// Nanoseconds since 1970, as all times here.
    pub created_at: i64,
    pub state: State,
    /// The PID namespace it joins; empty for the host's, none for one of its own.
    pub pid_namespace: Option<String>,
    /// Whether our shim started it, and no OCI runtime.
    #[serde(default)]
    pub built_in: bool,
    /// Its scope, if systemd made its group.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// The process that holds the scope until the first process is there; 0 for none.
    #[serde(default)]
    pub keeper: i32,
    pub pid: i32,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Created,
    Running,
    Exited,
}

impl State {
    fn to_cri(self) -> ContainerState {
        match self {
            Self::Created => ContainerState::ContainerCreated,
            Self::Running => ContainerState::ContainerRunning,
            Self::Exited => ContainerState::ContainerExited,
        }
    }
}

impl Container {
    pub fn new(record: Record, sandbox: Arc<Sandbox>) -> Self {
        let ended = channel::Sender::new(record.state == State::Exited);
        Self {
            id: record.id.clone(),
            sandbox,
            record: Mutex::new(record),
            busy: tokio::sync::Mutex::default(),
            saving: Mutex::default(),
            cleared: Mutex::default(),
            ended,
            cpu_sample: Mutex::default(),
        }
    }

    pub fn state(&self) -> State {
        self.record.lock().state
    }

    /// Waits until the container has ended.
    pub async fn wait(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub fn status(&self) -> ContainerStatus {
        let r = self.record.lock();
        ContainerStatus {
            id: self.id.clone(),
            metadata: r.config.metadata.clone(),
            state: r.state.to_cri() as i32,
            created_at: r.created_at,
            started_at: r.started_at,
            finished_at: r.finished_at,
            exit_code: r.exit_code,
            image: r.image(),
            image_ref: r.image_ref.clone(),
            reason: r.reason.clone(),
            message: r.message.clone(),
            labels: r.config.labels.clone(),
            annotations: r.config.annotations.clone(),
            mounts: r.config.mounts.clone(),
            log_path: r.log_file.clone(),
            resources: r
                .config
                .linux
                .as_ref()
                .and_then(|l| l.resources.clone())
                .map(|linux| ContainerResources { linux: Some(linux), windows: None }),
            image_id: r.image_id.clone(),
            user: Some(ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: r.user.uid.into(),
                    gid: r.user.gid.into(),
                    supplemental_groups: r.user.groups.iter().map(|g| (*g).into()).collect(),
                }),
            }),
            stop_signal: signal::to_cri(r.stop_signal),
        }
    }

    pub fn listed(&self) -> cri::Container {
        let r = self.record.lock();
        cri::Container {
            id: self.id.clone(),
            pod_sandbox_id: r.sandbox.clone(),
            metadata: r.config.metadata.clone(),
            image: r.image(),
            image_ref: r.image_ref.clone(),
            state: r.state.to_cri() as i32,
            created_at: r.created_at,
            labels: r.config.labels.clone(),
            annotations: r.config.annotations.clone(),
            image_id: r.image_id.clone(),
        }
    }
}

impl Runtime {
    /// For people, and for those who work with a container's files.
    pub fn container_info(&self, container: &Container) -> serde_json::Value {
        let mut info = serde_json::to_value(&*container.record.lock()).unwrap_or_default();
        info["writableLayer"] = self.container_dir(&container.id).join("upper").display().to_string().into();
        info["bundle"] = self.bundle(&container.id).display().to_string().into();
        info
    }
}

impl Record {
    fn image(&self) -> Option<ImageSpec> {
        let mut image = self.config.image.clone();
        if let Some(image) = image.as_mut().filter(|_| !self.image_name.is_empty()) {
            image.image.clone_from(&self.image_name);
        }
        image
    }

    /// What no two containers may share.
    pub fn name(&self, sandbox: &str) -> String {
        name(&self.config, sandbox)
    }
}

fn name(config: &ContainerConfig, sandbox: &str) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    format!("{}_{sandbox}_{}", metadata.name, metadata.attempt)
}
