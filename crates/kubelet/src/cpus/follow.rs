//! Running containers follow the CPUs that are shared.

use std::sync::Arc;

use k8s_cri::v1 as cri;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::set::shown;
use crate::context::Context;
use crate::cri::view::keys;

/// Moves running containers to the CPUs that are shared whenever those change, until `shutdown`.
pub async fn keep(ctx: Arc<Context>, shutdown: CancellationToken) {
    if !ctx.cpus.is_static() {
        return;
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = ctx.cpus.changed.notified() => {}
        }
        move_all(&ctx).await;
    }
}

async fn move_all(ctx: &Context) {
    let filter = cri::ContainerFilter {
        state: Some(cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning as i32 }),
        ..Default::default()
    };
    let list = ctx.cri.list_containers(cri::ListContainersRequest { filter: Some(filter) }).await;
    let containers = match list {
        Ok(list) => list.containers,
        Err(error) => return warn!(%error, "cannot move containers to other CPUs"),
    };
    for container in containers {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let key = (label(keys::POD_UID), label(keys::CONTAINER_NAME));
        let cpus = {
            let given = ctx.cpus.given.lock();
            shown(given.get(&key).unwrap_or(&ctx.cpus.shared(&given)))
        };
        let request = cri::UpdateContainerResourcesRequest {
            container_id: container.id.clone(),
            linux: Some(cri::LinuxContainerResources { cpuset_cpus: cpus, ..Default::default() }),
            ..Default::default()
        };
        if let Err(error) = ctx.cri.update_container_resources(request).await {
            // It may have ended meanwhile.
            debug!(container = container.id, %error, "cannot move a container to other CPUs");
        }
    }
}
