//! StopPodSandbox and RemovePodSandbox. Both may be asked for again and again.

use std::fs;
use std::sync::Arc;

use futures::future::try_join_all;
use k8s_cri::v1::ContainerEventType;
use shim_protocol::Request;
use tracing::{info, warn};

use super::{Sandbox, files};
use crate::state::{Runtime, blocking};
use crate::{Error, Result, disk};

impl Runtime {
    /// Kills what runs in a sandbox and takes its network and namespaces down. Its record stays.
    pub async fn stop_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        let _alone = sandbox.busy.lock().await;
        self.stop_sandbox_alone(sandbox).await
    }

    async fn stop_sandbox_alone(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        let containers = self.containers_of(&sandbox.id);
        try_join_all(containers.iter().map(|container| self.stop_container(container, 0))).await?;
        if sandbox.record.lock().released {
            return Ok(());
        }
        self.release_sandbox(sandbox).await?;
        {
            let mut record = sandbox.record.lock();
            record.ready = false;
            record.released = true;
        }
        self.save_sandbox(sandbox)?;
        self.publish_sandbox(sandbox, ContainerEventType::ContainerStoppedEvent);
        info!(sandbox = sandbox.id, "sandbox stopped");
        Ok(())
    }

    /// Takes down network, shim and mounts, whichever there are.
    pub async fn release_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        // Not ready from here on, so that the end of the shim is no news.
        sandbox.record.lock().ready = false;
        if self.cni.is_some() {
            // Plugins go into the pod's namespace, so that has to be there still.
            self.detach_network(&sandbox.id).await?;
            return self.take_down_sandbox(sandbox).await;
        }
        let host_network = sandbox.record.lock().host_network();
        let detach = async { if host_network { Ok(()) } else { self.detach_network(&sandbox.id).await } };
        // Its directory goes last, so that what is interrupted is found again.
        let (detached, ended) = tokio::join!(detach, self.end_shim(sandbox));
        detached.and(ended)?;
        disk::remove_tree(&sandbox.dir)
    }

    /// All of it but its network.
    pub async fn take_down_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        self.end_shim(sandbox).await?;
        disk::remove_tree(&sandbox.dir)
    }

    async fn end_shim(&self, sandbox: &Arc<Sandbox>) -> Result<()> {
        let held = sandbox.clone();
        let unmounted = tokio::spawn(blocking(move || files::unmount_all(&held.dir)));
        if let Err(error) = sandbox.shim.call(Request::Shutdown).await {
            // There is none, or it has just gone.
            tracing::debug!(sandbox = sandbox.id, %error, "shim not shut down");
        }
        match unmounted.await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    pub async fn remove_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        let _alone = sandbox.busy.lock().await;
        self.stop_sandbox_alone(sandbox).await?;
        let containers = self.containers_of(&sandbox.id);
        try_join_all(containers.iter().map(|container| self.remove_container(container))).await?;
        let record = self.sandbox_record(&sandbox.id);
        disk::ignore_missing(fs::remove_file(&record)).map_err(Error::io("remove", &record))?;
        self.sandboxes.remove(&sandbox.id);
        // One that was being created meanwhile sees now that its sandbox is gone, unless it is here by now.
        let late = self.containers_of(&sandbox.id);
        try_join_all(late.iter().map(|container| self.remove_container(container))).await?;
        self.publish_sandbox(sandbox, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// The shim is gone though nobody asked it to go: the pod is over.
    pub async fn shim_lost(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        if !std::mem::replace(&mut sandbox.record.lock().ready, false) {
            return;
        }
        warn!(sandbox = sandbox.id, "the sandbox's shim has died; its containers are killed");
        if let Err(error) = self.save_sandbox(sandbox) {
            warn!(sandbox = sandbox.id, %error, "could not record that the sandbox is not ready");
        }
        for container in self.containers_of(&sandbox.id) {
            self.container_lost(&container);
        }
        self.publish_sandbox(sandbox, ContainerEventType::ContainerStoppedEvent);
    }
}
