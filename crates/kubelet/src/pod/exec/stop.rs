//! Ending a container: its preStop hook, then the runtime's stop, all within the grace period.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::time::Instant;

use super::PodEnv;
use crate::cri::view;
use crate::hooks;
use crate::meters;
use crate::pod::machine::Input;

/// After the hook, a container still gets this long to end by itself.
const LEAST_GRACE: i64 = 2;

pub struct Stop {
    pub container: Arc<Container>,
    pub id: String,
    pub sandbox_id: String,
    pub grace: i64,
    pub hook: bool,
    pub pod_ip: String,
}

pub async fn stop(env: Arc<PodEnv>, pod: Arc<Pod>, stop: Stop) -> Input {
    let name = stop.container.name.clone();
    let result = try_stop(&env, &pod, stop).await;
    Input::Stopped { name, result }
}

async fn try_stop(env: &PodEnv, pod: &Pod, stop: Stop) -> Result<Option<view::Container>, String> {
    let cri = &env.ctx.cri;
    let began = Instant::now();
    let lifecycle = stop.container.lifecycle.as_ref();
    let hook = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()).filter(|_| stop.hook);
    if let Some(hook) = hook {
        let limit = Duration::from_secs(u64::try_from(stop.grace).unwrap_or(0));
        let run = hooks::run(cri, hook, &stop.container, &stop.id, &stop.pod_ip, Some(limit));
        // A hook that outlives the grace period is left behind with its container.
        let ran = tokio::time::timeout(limit, run).await;
        if ran.is_err() && hook.sleep.is_some() {
            meters::count("kubelet_lifecycle_handler_sleep_terminated_total", &[]);
        }
        if let Ok(Err(message)) = ran {
            let message = format!("PreStopHook failed: {message}");
            env.ctx.events.warning(pod, Some(&stop.container.name), "FailedPreStopHook", &message);
        }
    }
    let spent = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
    let grace = stop.grace.saturating_sub(spent).max(LEAST_GRACE);
    if let Err(error) = cri.stop_container(&stop.id, grace).await {
        let message = format!("error killing container {:?}: {error}", stop.container.name);
        env.ctx.events.warning(pod, Some(&stop.container.name), "FailedKillPod", &message);
        return Err(message);
    }
    match cri.container_status(&stop.id).await {
        Ok(status) => Ok(Some(view::Container::new(&stop.sandbox_id, status))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
