//! What a Deployment tells about its rollout. Free of IO.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::revision::Sets;
use super::rolling::{self, available, desired, size};
use crate::kit::meta;

pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The `Progressing` conditions that decisions (not counters) lead to.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    Created(String),
    Found(String),
    CreateFailed(String),
    Paused,
    Resumed,
}

/// The status of a Deployment whose sets are these, `generation` being what was acted upon.
pub fn status(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets,
    progress: Option<&Progress>,
    generation: Option<i64>,
    now: &Time,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let told = |count: fn(&ReplicaSet) -> i32| sets.all().map(count).sum::<i32>();
    let available_total = told(available);
    let unavailable = (told(size) - available_total).max(0);
    let mut new = DeploymentStatus {
        observed_generation: generation,
        replicas: positive(told(actual)),
        updated_replicas: positive(sets.new.as_ref().map_or(0, actual)),
        ready_replicas: positive(told(ready)),
        available_replicas: positive(available_total),
        unavailable_replicas: positive(unavailable),
        terminating_replicas: Some(told(terminating)),
        collision_count: old.collision_count,
        conditions: None,
    };

    let enough = available_total >= desired(spec) - rolling::max_unavailable(spec);
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut conditions, condition(AVAILABLE, value, reason, message.to_owned(), now));

    if deadline(spec).is_none() {
        conditions.retain(|condition| condition.type_ != PROGRESSING);
    } else {
        if let Some(progress) = progress {
            set(&mut conditions, decided(progress, now));
        }
        progressing(deployment, spec, sets, &old, &new, &mut conditions, now);
    }

    match sets.new.iter().chain(&sets.old).find_map(failure) {
        Some(failure) => set(&mut conditions, failure),
        None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
    }
    new.conditions = Some(conditions);
    new
}

fn progressing(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets,
    old: &DeploymentStatus,
    new: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    now: &Time,
) {
    let current = conditions.iter().find(|condition| condition.type_ == PROGRESSING).cloned();
    let reason = current.as_ref().and_then(|current| current.reason.as_deref());
    if new.replicas == new.updated_replicas && reason == Some(NEW_SET_AVAILABLE) {
        return;
    }
    let subject = match &sets.new {
        Some(set) => format!("ReplicaSet \"{}\"", meta::name(set)),
        None => format!("Deployment \"{}\"", meta::name(deployment)),
    };
    if is_complete(deployment, spec, new) {
        let message = format!("{subject} has successfully progressed.");
        set(conditions, condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now));
    } else if has_progressed(old, new) {
        let message = format!("{subject} is progressing.");
        let mut next = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        // The update time moves with each step: the deadline counts from the last one.
        if let Some(current) = current.filter(|current| current.status == "True") {
            next.last_transition_time = current.last_transition_time;
        }
        conditions.retain(|condition| condition.type_ != PROGRESSING);
        conditions.push(next);
    } else if let Some(current) = current
        && spec.paused != Some(true)
        && current.reason.as_deref() != Some(NEW_SET_AVAILABLE)
        && time_left(&current, spec, now).is_some_and(|left| left.is_zero())
    {
        let message = format!("{subject} has timed out progressing.");
        set(conditions, condition(PROGRESSING, "False", TIMED_OUT, message, now));
    }
}

/// When the deadline has to be looked at again, if nothing happens before.
pub fn next_deadline(spec: &DeploymentSpec, status: &DeploymentStatus, now: &Time) -> Option<Duration> {
    let current = status.conditions.iter().flatten().find(|condition| condition.type_ == PROGRESSING)?;
    let settled = matches!(current.reason.as_deref(), Some(NEW_SET_AVAILABLE | TIMED_OUT));
    if settled || spec.paused == Some(true) {
        return None;
    }
    // A second more, for times are kept in whole seconds.
    time_left(current, spec, now).map(|left| left + Duration::from_secs(1))
}

fn time_left(current: &DeploymentCondition, spec: &DeploymentSpec, now: &Time) -> Option<Duration> {
    let since = meta::seconds_between(current.last_update_time.as_ref()?, now.0);
    Some(Duration::from_secs_f64((f64::from(deadline(spec)?) - since).max(0.0)))
}

fn deadline(spec: &DeploymentSpec) -> Option<i32> {
    spec.progress_deadline_seconds.filter(|seconds| *seconds < i32::MAX)
}

pub fn is_complete(deployment: &Deployment, spec: &DeploymentSpec, status: &DeploymentStatus) -> bool {
    let all = positive(desired(spec));
    status.updated_replicas == all
        && status.replicas == all
        && status.available_replicas == all
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn decided(progress: &Progress, now: &Time) -> DeploymentCondition {
    let (status, reason, message) = match progress {
        Progress::Created(set) => {
            ("True", "NewReplicaSetCreated", format!("Created new replica set \"{set}\""))
        }
        Progress::Found(set) => ("True", "FoundNewReplicaSet", format!("Found new replica set \"{set}\"")),
        Progress::CreateFailed(message) => ("False", "ReplicaSetCreateError", message.clone()),
        Progress::Paused => ("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()),
        Progress::Resumed => ("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()),
    };
    condition(PROGRESSING, status, reason, message, now)
}

fn condition(type_: &str, status: &str, reason: &str, message: String, now: &Time) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    }
}

/// Puts a condition in place of the one of its type; its times stay if nothing is new.
fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    let Some(old) = conditions.iter_mut().find(|condition| condition.type_ == new.type_) else {
        conditions.push(new);
        return;
    };
    if old.status == new.status && old.reason == new.reason {
        return;
    }
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    *old = new;
}

fn failure(set: &ReplicaSet) -> Option<DeploymentCondition> {
    let conditions = set.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)?;
    Some(DeploymentCondition {
        type_: failure.type_.clone(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_update_time: failure.last_transition_time.clone(),
        last_transition_time: failure.last_transition_time.clone(),
    })
}

/// Upstream leaves counters of zero out.
fn positive(count: i32) -> Option<i32> {
    (count > 0).then_some(count)
}

fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

fn terminating(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0)
}
