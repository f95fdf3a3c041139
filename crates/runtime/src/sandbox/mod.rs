//! Pod sandboxes: a shim with the pod's namespaces, a network, and files that its containers share.

mod create;
mod files;
mod stop;
mod sysctls;

pub use create::host_ports;

use std::net::IpAddr;
use std::path::PathBuf;

use k8s_cri::v1::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox, PodSandboxConfig, PodSandboxMetadata,
    PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::shim_client::Shim;
use crate::spec::mounts::SandboxFiles;
use crate::spec::{self, Namespaces};

pub struct Sandbox {
    pub id: String,
    /// In the run directory: the shim's socket, the shared files.
    pub dir: PathBuf,
    pub shim: Shim,
    pub record: Mutex<Record>,
    /// Held from looking at the record until it is on disk, so that the last state written is the last there was.
    pub saving: Mutex<()>,
    /// Held while the sandbox is stopped or removed.
    pub busy: tokio::sync::Mutex<()>,
}

/// What is on disk of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub config: PodSandboxConfig,
    pub handler: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    pub ready: bool,
    /// Whether its network, mounts and shim have been taken down.
    pub released: bool,
    pub shim_pid: i32,
    pub pod_init: Option<i32>,
    pub ips: Vec<IpAddr>,
    pub boot_id: String,
}

impl Sandbox {
    pub fn new(record: Record, dir: PathBuf) -> Self {
        let shim = Shim::new(&record.id, &dir);
        Self {
            id: record.id.clone(),
            dir,
            shim,
            record: Mutex::new(record),
            saving: Mutex::default(),
            busy: tokio::sync::Mutex::default(),
        }
    }

    pub fn files(&self) -> SandboxFiles {
        SandboxFiles {
            hostname: self.dir.join("hostname"),
            hosts: self.dir.join("hosts"),
            resolv_conf: self.dir.join("resolv.conf"),
            shm: self.dir.join("shm"),
        }
    }

    pub fn namespaces(&self) -> Namespaces {
        let record = self.record.lock();
        Namespaces { shim: record.shim_pid, pid: record.pod_init }
    }

    pub fn status(&self) -> PodSandboxStatus {
        let record = self.record.lock();
        let mut ips = record.ips.iter().map(IpAddr::to_string);
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: record.config.metadata.clone(),
            state: record.state() as i32,
            created_at: record.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip: ips.next().unwrap_or_default(),
                additional_ips: ips.map(|ip| PodIp { ip }).collect(),
            }),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace { options: Some(spec::namespace_options(&record.config)) }),
            }),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            runtime_handler: record.handler.clone(),
        }
    }

    /// For people and for those who look into pods from outside.
    pub fn info(&self) -> serde_json::Value {
        let record = self.record.lock();
        let namespace = |kind: &str| format!("/proc/{}/ns/{kind}", record.shim_pid);
        serde_json::json!({
            "pid": record.shim_pid,
            "networkNamespace": if record.host_network() { String::new() } else { namespace("net") },
            "ipcNamespace": namespace("ipc"),
            "hostname": spec::hostname(&record.config),
            "runtimeHandler": record.handler,
            "directory": self.dir,
            "config": record.config,
        })
    }

    pub fn listed(&self) -> PodSandbox {
        let record = self.record.lock();
        PodSandbox {
            id: self.id.clone(),
            metadata: record.config.metadata.clone(),
            state: record.state() as i32,
            created_at: record.created_at,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            runtime_handler: record.handler.clone(),
        }
    }
}

impl Record {
    /// Of a sandbox whose own record was never written.
    pub fn stray(id: &str, boot_id: &str) -> Self {
        Self {
            id: id.to_owned(),
            config: PodSandboxConfig::default(),
            handler: String::new(),
            created_at: 0,
            ready: false,
            released: false,
            shim_pid: 0,
            pod_init: None,
            ips: Vec::new(),
            boot_id: boot_id.to_owned(),
        }
    }

    pub fn state(&self) -> PodSandboxState {
        if self.ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
    }

    pub fn name(&self) -> String {
        name(self.config.metadata.as_ref())
    }

    pub fn host_network(&self) -> bool {
        spec::namespace_options(&self.config).network() == k8s_cri::v1::NamespaceMode::Node
    }
}

/// What no two sandboxes may share.
pub fn name(metadata: Option<&PodSandboxMetadata>) -> String {
    let default = PodSandboxMetadata::default();
    let m = metadata.unwrap_or(&default);
    format!("{}_{}_{}_{}", m.name, m.namespace, m.uid, m.attempt)
}
