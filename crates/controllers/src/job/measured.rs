//! What the Job controller tells of its work in `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;

use super::track;
use crate::kit::meters::{JOB_PODS_FINISHED, JOB_SYNC_DURATION, JOB_SYNCS, JOBS_FINISHED, METERS};

/// What a step did most of all.
#[derive(Clone, Copy, Debug, Default)]
pub enum Action {
    #[default]
    Reconciling,
    Tracking,
    PodsCreated,
    PodsDeleted,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Reconciling => "reconciling",
            Self::Tracking => "tracking",
            Self::PodsCreated => "pods_created",
            Self::PodsDeleted => "pods_deleted",
        }
    }
}

fn mode(spec: &JobSpec) -> &'static str {
    if track::is_indexed(spec) { "Indexed" } else { "NonIndexed" }
}

pub fn synced(spec: &JobSpec, action: Action, went_well: bool, took: Duration) {
    let result = if went_well { "success" } else { "error" };
    let labels = [("action", action.name()), ("completion_mode", mode(spec)), ("result", result)];
    METERS.took(JOB_SYNC_DURATION, &labels, took);
    METERS.count(JOB_SYNCS, &labels);
}

/// These are in the status now, and no longer held for it.
pub fn pods_counted(spec: &JobSpec, pods: &[Arc<Pod>]) {
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let result = if phase == Some("Succeeded") { "succeeded" } else { "failed" };
        METERS.count(JOB_PODS_FINISHED, &[("completion_mode", mode(spec)), ("result", result)]);
    }
}

pub fn job_finished(spec: &JobSpec, succeeded: bool, reason: &str) {
    let result = if succeeded { "succeeded" } else { "failed" };
    METERS.count(JOBS_FINISHED, &[("completion_mode", mode(spec)), ("reason", reason), ("result", result)]);
}
