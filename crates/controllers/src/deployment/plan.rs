//! What to do about a Deployment: the next step of its rollout. Free of IO.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};

use super::revision::{self, REVISION, Sets};
use super::rolling::{self, size};
use super::scale;
use super::status::{PROGRESSING, Progress};
use crate::kit::meta;

/// The next step.
#[derive(Debug, Default)]
pub struct Plan {
    pub create: Option<ReplicaSet>,
    /// Sets to be replaced, and the sizes they had.
    pub update: Vec<(ReplicaSet, i32)>,
    pub delete: Vec<ReplicaSet>,
    /// The revision that the Deployment itself is to tell.
    pub revision: Option<i64>,
    pub progress: Option<Progress>,
}

pub fn plan(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &[Arc<ReplicaSet>],
    old_pods_run: bool,
) -> Plan {
    let mut plan = Plan::default();
    if meta::is_terminating(deployment) {
        return plan;
    }
    let mut now = Sets::of(spec, sets);
    plan.progress = paused_or_resumed(deployment, spec);
    let next_revision = now.next_revision();
    if let Some(new) = &mut now.new {
        revision::inherit(deployment, spec, new, next_revision);
        if plan.progress.is_none() && reason(deployment).is_none() {
            plan.progress = Some(Progress::Found(meta::name(new).to_owned()));
        }
    }

    if spec.paused == Some(true) || scale::is_scaling(spec, &now) {
        scale::scale(deployment, spec, &mut now);
        if spec.paused == Some(true) {
            plan.delete = revision::surplus(spec, &now).into_iter().cloned().collect();
        }
    } else if rolling::is_recreate(spec) {
        recreate(deployment, spec, &mut now, old_pods_run, &mut plan);
    } else {
        roll(deployment, spec, &mut now, &mut plan);
    }

    let shown = now.new.as_ref().or(plan.create.as_ref()).map(revision::revision);
    let told = meta::annotation(deployment, REVISION).and_then(|revision| revision.parse().ok());
    plan.revision = shown.filter(|shown| Some(*shown) != told);
    for set in now.old.into_iter().chain(now.new) {
        let before = sets.iter().find(|before| before.metadata.uid == set.metadata.uid);
        if let Some(before) = before.filter(|before| ***before != set) {
            plan.update.push((set, size(before)));
        }
    }
    plan
}

fn roll(deployment: &Deployment, spec: &DeploymentSpec, now: &mut Sets, plan: &mut Plan) {
    if now.new.is_none() {
        plan.create = Some(revision::new_set(deployment, spec, now));
        return;
    }
    // One direction at a time: the other depends on what this one leads to.
    if !rolling::grow_new(spec, now) && !rolling::shrink_old(spec, now) {
        clean_up(deployment, spec, now, plan);
    }
}

fn recreate(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    now: &mut Sets,
    old_pods_run: bool,
    plan: &mut Plan,
) {
    let mut shrunk = false;
    for old in now.old.iter_mut().filter(|set| size(set) > 0) {
        rolling::resize(spec, old, 0);
        shrunk = true;
    }
    if shrunk || old_pods_run {
        return;
    }
    if now.new.is_none() {
        plan.create = Some(revision::new_set(deployment, spec, now));
    } else if !rolling::grow_new(spec, now) {
        clean_up(deployment, spec, now, plan);
    }
}

fn clean_up(deployment: &Deployment, spec: &DeploymentSpec, now: &Sets, plan: &mut Plan) {
    let complete =
        deployment.status.as_ref().is_some_and(|status| super::status::is_complete(deployment, spec, status));
    if complete {
        plan.delete = revision::surplus(spec, now).into_iter().cloned().collect();
    }
}

fn reason(deployment: &Deployment) -> Option<&str> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == PROGRESSING)?.reason.as_deref()
}

/// Pausing stops the clock of the progress deadline, resuming starts it anew.
fn paused_or_resumed(deployment: &Deployment, spec: &DeploymentSpec) -> Option<Progress> {
    let told = reason(deployment);
    if told == Some("ProgressDeadlineExceeded") {
        return None;
    }
    match (spec.paused == Some(true), told == Some("DeploymentPaused")) {
        (true, false) => Some(Progress::Paused),
        (false, true) => Some(Progress::Resumed),
        _ => None,
    }
}
