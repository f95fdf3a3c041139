//! RemoveContainer: nothing of it stays.

use std::sync::Arc;

use k8s_cri::v1::ContainerEventType;
use shim_protocol::Request;
use tracing::debug;

use super::create::{CGROUP, IMAGES};
use super::{Container, State, image_volumes, rootfs};
use crate::state::{Runtime, blocking};
use crate::{Result, disk};

impl Runtime {
    /// A running container is killed first.
    pub async fn remove_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let _alone = container.busy.lock().await;
        if container.state() == State::Running {
            self.kill_container(container).await?;
        }
        if container.sandbox.record.lock().ready {
            let forget = Request::Forget { container: container.id.clone() };
            if let Err(error) = container.sandbox.shim.call(forget).await {
                debug!(container = container.id, %error, "the shim keeps its note of the container");
            }
        }
        let (runtime, held) = (self.clone(), container.clone());
        blocking(move || {
            runtime.clean_runtime_state(&held)?;
            runtime.clean_files(&held.id)
        })
        .await?;
        self.containers.remove(&container.id);
        self.publish_container(container, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// Removes a container of which nobody knows more than its files.
    pub fn clean_container(&self, id: &str) -> Result<()> {
        if let Ok(cgroup) = std::fs::read_to_string(self.container_dir(id).join(CGROUP)) {
            self.cgroups.kill(&cgroup);
            self.cgroups.remove(&cgroup)?;
        }
        self.clean_files(id)
    }

    /// Removes a container's files. The directory of its record goes last, so that what is interrupted is found again.
    fn clean_files(&self, id: &str) -> Result<()> {
        let bundle = self.bundle(id);
        rootfs::unmount_root(&bundle.join("rootfs"))?;
        image_volumes::unmount(&bundle.join(IMAGES))?;
        disk::remove_tree(&bundle)?;
        self.images.release(id)?;
        self.trash.discard(&self.container_dir(id))
    }
}
