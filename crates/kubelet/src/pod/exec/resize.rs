//! Giving a running container, and its pod, the resources that they have been allocated.

use std::sync::Arc;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::PodEnv;
use crate::container::resources;
use crate::pod::ext::PodExt;
use crate::pod::machine::Input;
use crate::turns::in_turn;

pub async fn resize(env: Arc<PodEnv>, pod: Arc<Pod>, container: Arc<Container>, id: String) -> Input {
    let result = try_resize(&env, &pod, &container, &id).await;
    let wanted = container.resources.clone().unwrap_or_default();
    Input::Resized { name: container.name.clone(), result: result.map(|()| wanted) }
}

async fn try_resize(env: &PodEnv, pod: &Pod, container: &Container, id: &str) -> Result<(), String> {
    let ctx = &env.ctx;
    let mut linux = resources::linux(pod, container, &ctx.container_defaults());
    if !ctx.cpus.given(pod.uid(), &container.name).is_empty() {
        linux.cpu_quota = -1;
    }
    if linux.memory_limit_in_bytes > 0 {
        let usage = ctx.cri.container_memory(id).await.map_err(|error| error.to_string())?;
        let limit = u64::try_from(linux.memory_limit_in_bytes).unwrap_or(0);
        if usage > limit {
            return Err(format!(
                "attempting to set memory limit ({limit}) of container {:?} below current usage ({usage})",
                container.name
            ));
        }
    }
    // The pod's limits grow before its containers' and shrink after them.
    let own_cpus = ctx.cpus.has_own(pod.uid());
    in_turn(|| ctx.cgroups.widen(pod, own_cpus)).await;
    let request = cri::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(linux),
        ..Default::default()
    };
    ctx.cri.update_container_resources(request).await.map_err(|error| error.to_string())?;
    resize_pod(env, pod);
    Ok(())
}

pub fn resize_pod(env: &PodEnv, pod: &Pod) {
    let own_cpus = env.ctx.cpus.has_own(pod.uid());
    tokio::task::block_in_place(|| env.ctx.cgroups.update(pod, own_cpus));
}
