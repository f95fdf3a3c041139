//! Running a pod's sandbox.

use std::sync::Arc;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use tracing::warn;

use super::PodEnv;
use crate::container::sandbox;
use crate::context::Context;
use crate::cri::view::Sandbox;
use crate::meters;
use crate::pod::ext::PodExt;
use crate::pod::machine::{Failure, Input};
use crate::turns::in_turn;

/// The configuration of the pod's sandbox: the same whenever it is asked for.
pub fn config(ctx: &Context, pod: &Pod, attempt: u32) -> Result<cri::PodSandboxConfig, String> {
    let block = ctx.users.of(pod)?;
    let (logs, parent) = (ctx.log_dir(pod), ctx.cgroups.parent(pod));
    sandbox::check_hostname(pod, &ctx.options.cluster_domain)?;
    Ok(sandbox::config(pod, attempt, &ctx.cluster(), &logs, &parent, block))
}

pub async fn run_sandbox(
    env: Arc<PodEnv>,
    pod: Arc<Pod>,
    attempt: u32,
    stops: Option<String>,
    removes: Vec<String>,
) -> Input {
    meters::count("kubelet_started_pods_total", &[]);
    let mapped = pod.pod_spec().host_users == Some(false);
    if mapped {
        meters::count("kubelet_started_user_namespaced_pods_total", &[]);
    }
    let result = try_run(&env, &pod, attempt, stops, removes).await;
    if result.is_err() {
        meters::count("kubelet_started_pods_errors_total", &[]);
        if mapped {
            meters::count("kubelet_started_user_namespaced_pods_errors_total", &[]);
        }
    }
    Input::Sandbox(result.map_err(|message| Failure { reason: "FailedCreatePodSandBox".into(), message }))
}

async fn try_run(
    env: &PodEnv,
    pod: &Pod,
    attempt: u32,
    stops: Option<String>,
    removes: Vec<String>,
) -> Result<Sandbox, String> {
    let ctx = &env.ctx;
    if let Some(id) = stops {
        ctx.cri.stop_pod_sandbox(&id).await.map_err(|error| error.to_string())?;
    }
    for id in removes {
        if let Err(error) = ctx.cri.remove_pod_sandbox(&id).await {
            warn!(pod = pod.full_name(), sandbox = id, %error, "cannot remove an old sandbox");
        }
    }
    let logs = ctx.log_dir(pod);
    in_turn(|| {
        let began = std::time::Instant::now();
        ctx.cgroups.make(pod, ctx.cpus.has_own(pod.uid()));
        let labels = [("operation_type", "create")];
        meters::observe("kubelet_cgroup_manager_duration_seconds", &labels, began.elapsed());
        std::fs::create_dir_all(&logs)
    })
    .await
    .map_err(|error| format!("cannot make the log directory {}: {error}", logs.display()))?;
    let handler = handler(ctx, pod).await?;
    env.handler.lock().clone_from(&handler);
    if pod.pod_spec().host_users == Some(false) && !ctx.has_user_namespaces(&handler) {
        return Err(format!("RuntimeClass handler {handler:?} does not support user namespaces"));
    }
    let began = std::time::Instant::now();
    let labelled = handler.clone();
    let ran = ctx.cri.run_pod_sandbox(config(ctx, pod, attempt)?, handler).await;
    let labels = [("runtime_handler", labelled.as_str())];
    meters::observe("kubelet_run_podsandbox_duration_seconds", &labels, began.elapsed());
    if ran.is_err() {
        meters::count("kubelet_run_podsandbox_errors_total", &labels);
    }
    let id = ran.map_err(|error| error.to_string())?;
    if ctx.cgroups.is_systemd() {
        // systemd has made the slice its own, with limits of its own.
        in_turn(|| ctx.cgroups.update(pod, ctx.cpus.has_own(pod.uid()))).await;
    }
    let status = ctx.cri.pod_sandbox_status(&id).await.map_err(|error| error.to_string())?;
    Ok(Sandbox::new(status))
}

/// What the pod's RuntimeClass names.
async fn handler(ctx: &Context, pod: &Pod) -> Result<String, String> {
    use k8s_openapi::api::node::v1::RuntimeClass;
    let Some(name) = pod.pod_spec().runtime_class_name.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(String::new());
    };
    let api: kube::Api<RuntimeClass> = kube::Api::all(ctx.client.clone());
    match api.get_opt(name).await {
        Ok(Some(class)) => Ok(class.handler),
        Ok(None) => Err(format!("failed to get sandbox runtime: RuntimeClass {name:?} not found")),
        Err(error) => Err(format!("failed to get sandbox runtime: {error}")),
    }
}
