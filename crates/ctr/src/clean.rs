//! Ending and removing.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cri::v1::{
    Container, ContainerStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter,
    PodSandboxState, RemoveContainerRequest, RemovePodSandboxRequest, StopContainerRequest,
    StopPodSandboxRequest,
};

use crate::run::LOG;
use crate::{Ctr, LABEL, is_running, told};

impl Ctr {
    pub async fn stop(&mut self, wanted: &str, seconds: i64) -> Result<()> {
        let container = self.find(wanted).await?;
        let request = StopContainerRequest { container_id: container.id, timeout: seconds };
        self.runtime.stop_container(request).await.map_err(told)?;
        println!("{wanted}");
        Ok(())
    }

    /// Removes a container, and its sandbox if that was made for it here.
    pub async fn rm(&mut self, wanted: &str, force: bool) -> Result<()> {
        let container = self.find(wanted).await?;
        if is_running(&container) && !force {
            anyhow::bail!("container {wanted} is running: stop it first, or use --force");
        }
        self.remove(&container).await?;
        println!("{wanted}");
        Ok(())
    }

    pub(crate) async fn remove(&mut self, container: &Container) -> Result<()> {
        let log = self.log_of(&container.id).await?;
        let request = RemoveContainerRequest { container_id: container.id.clone() };
        self.runtime.remove_container(request).await.map_err(told)?;
        if container.labels.contains_key(LABEL) {
            self.remove_sandbox(&container.pod_sandbox_id).await?;
            remove_log(&log);
        }
        Ok(())
    }

    async fn log_of(&mut self, id: &str) -> Result<PathBuf> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = self.runtime.container_status(request).await.map_err(told)?.into_inner().status;
        Ok(PathBuf::from(status.map(|s| s.log_path).unwrap_or_default()))
    }

    pub(crate) async fn remove_sandbox(&mut self, id: &str) -> Result<()> {
        let pod_sandbox_id = id.to_owned();
        let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.runtime.stop_pod_sandbox(request).await.map_err(told)?;
        let request = RemovePodSandboxRequest { pod_sandbox_id };
        self.runtime.remove_pod_sandbox(request).await.map_err(told)?;
        Ok(())
    }

    /// Removes what was run from here and has ended; what a kubelet has is its own business.
    pub async fn prune(&mut self) -> Result<String> {
        let all = self.runtime.list_containers(ListContainersRequest::default()).await.map_err(told)?;
        let all = all.into_inner().containers;
        let mut removed = String::new();
        for container in all.iter().filter(|c| c.labels.contains_key(LABEL) && !is_running(c)) {
            self.remove(container).await?;
            removed.push_str(&format!("{}\n", container.id));
        }
        let filter = PodSandboxFilter {
            label_selector: [(LABEL.to_owned(), "true".to_owned())].into(),
            ..PodSandboxFilter::default()
        };
        let left = self.runtime.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await;
        for sandbox in left.map_err(told)?.into_inner().items {
            let empty = !all.iter().any(|c| c.pod_sandbox_id == sandbox.id && is_running(c));
            if empty && sandbox.state() == PodSandboxState::SandboxNotready {
                self.remove_sandbox(&sandbox.id).await?;
            }
        }
        Ok(removed)
    }
}

/// The log of a container that was run from here is in a directory of its own.
pub(crate) fn remove_log(log: &Path) {
    if log.file_name().is_some_and(|name| name == LOG)
        && let Some(directory) = log.parent()
    {
        let _ = std::fs::remove_file(log);
        // Only if nothing else is in it.
        let _ = std::fs::remove_dir(directory);
    }
}
