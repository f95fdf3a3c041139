//! The end of a pod on this node.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tracing::warn;

use super::{PodEnv, log_links};
use crate::context::Context;
use crate::csi;
use crate::meters;
use crate::pod::ext::PodExt;
use crate::pod::machine::Input;
use crate::turns::in_turn;
use crate::volumes;

pub async fn tear_down(env: Arc<PodEnv>, pod: Arc<Pod>, sandboxes: Vec<String>, remove: bool) -> Input {
    Input::TornDown(try_tear_down(&env, &pod, sandboxes, remove).await)
}

async fn try_tear_down(env: &PodEnv, pod: &Pod, sandboxes: Vec<String>, remove: bool) -> Result<(), String> {
    let ctx = &env.ctx;
    for id in &sandboxes {
        ctx.cri.stop_pod_sandbox(id).await.map_err(|error| error.to_string())?;
        if remove {
            ctx.cri.remove_pod_sandbox(id).await.map_err(|error| error.to_string())?;
        }
    }
    give_back(ctx, pod.uid()).await?;
    in_turn(|| {
        let began = std::time::Instant::now();
        ctx.cgroups.remove(pod);
        let labels = [("operation_type", "destroy")];
        meters::observe("kubelet_cgroup_manager_duration_seconds", &labels, began.elapsed());
        if remove {
            let logs = ctx.log_dir(pod);
            match std::fs::remove_dir_all(&logs) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("cannot remove {}: {error}", logs.display()));
                }
                _ => {}
            }
            log_links::clean(ctx, pod);
        }
        Ok(())
    })
    .await
}

/// Nothing of the pod runs any more: what it was given of the node can go.
pub async fn give_back(ctx: &Context, uid: &str) -> Result<(), String> {
    let dir = ctx.pod_dir(uid);
    csi::take_back(ctx, &dir).await?;
    volumes::forget_tokens(uid);
    ctx.claims.release(uid).await?;
    ctx.devices.release(uid);
    ctx.cpus.release(uid);
    ctx.memory.release(uid);
    ctx.users.release(uid);
    in_turn(|| volumes::remove_pod_dir(&dir)).await.map_err(|error| error.to_string())
}

/// Tells the API that nothing is left, until it has understood.
pub async fn finalize(env: Arc<PodEnv>, pod: Arc<Pod>) {
    let api: Api<Pod> = Api::namespaced(env.ctx.client.clone(), pod.namespace());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..Default::default()
    };
    let mut delay = Duration::from_millis(200);
    loop {
        match api.delete(pod.name(), &params).await {
            Ok(_) => return,
            // Gone already, or another pod has the name now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(error) => {
                warn!(pod = pod.full_name(), %error, "cannot delete the pod from the API, trying again")
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(10));
    }
}
