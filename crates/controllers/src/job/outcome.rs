//! Whether a Job has succeeded or failed, and how its conditions say so. Free of IO.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::failure;
use super::indexes::Indexes;
use super::track::{self, Tracked};
use crate::kit::meta;

pub const COMPLETE: &str = "Complete";
pub const FAILED: &str = "Failed";
const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const FAILURE_TARGET: &str = "FailureTarget";
const SUSPENDED: &str = "Suspended";

/// How a Job ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub success: bool,
    pub reason: String,
    pub message: String,
}

impl Outcome {
    fn new(success: bool, reason: &str, message: impl Into<String>) -> Self {
        Self { success, reason: reason.to_owned(), message: message.into() }
    }
}

pub fn is_finished(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| matches!(condition.type_.as_str(), COMPLETE | FAILED) && condition.status == "True")
}

pub fn is_suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

/// How the Job ends, once that is certain.
pub fn outcome(job: &Job, spec: &JobSpec, tracked: &Tracked, now: Timestamp) -> Option<Outcome> {
    // What was announced once stays.
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    for condition in conditions.filter(|condition| condition.status == "True") {
        let success = match condition.type_.as_str() {
            SUCCESS_CRITERIA_MET => true,
            FAILURE_TARGET => false,
            _ => continue,
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        return Some(Outcome::new(success, &text(&condition.reason), text(&condition.message)));
    }
    if let Some(why) = &tracked.fail_job {
        return Some(Outcome::new(false, "PodFailurePolicy", why.clone()));
    }
    if over_limit(spec, tracked) {
        return Some(Outcome::new(
            false,
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ));
    }
    if deadline_left(job, spec, now).is_some_and(|left| left.is_zero()) {
        return Some(Outcome::new(
            false,
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        ));
    }
    if let Some(outcome) = failed_indexes(spec, tracked) {
        return Some(outcome);
    }
    if track::is_indexed(spec)
        && let Some(message) = success_policy(spec, &tracked.completed)
    {
        return Some(Outcome::new(true, "SuccessPolicy", message));
    }
    let enough = match spec.completions {
        // Without a number, one success means that the work is done, once all have stopped.
        None => tracked.total_succeeded > 0 && tracked.active.is_empty(),
        Some(completions) => tracked.total_succeeded >= completions,
    };
    enough.then(|| Outcome::new(true, "CompletionsReached", "Reached expected number of succeeded pods"))
}

fn over_limit(spec: &JobSpec, tracked: &Tracked) -> bool {
    let limit = spec.backoff_limit.unwrap_or(6);
    if tracked.total_failed > limit {
        return true;
    }
    // Pods that are restarted in place do not fail; their restarts count instead.
    let restarts_in_place =
        spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure");
    let restarts: i32 = tracked.active.iter().map(|pod| failure::restarts(pod)).sum();
    restarts_in_place && if limit == 0 { restarts > 0 } else { restarts >= limit }
}

fn success_policy(spec: &JobSpec, completed: &Indexes) -> Option<String> {
    let end = spec.completions.unwrap_or(0);
    let rules = spec.success_policy.as_ref().map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let met = rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_deref().map(|text| Indexes::parse(text, end));
        let among = wanted.as_ref().map_or(completed.len(), |wanted| wanted.intersection_len(completed));
        match (rule.succeeded_count, &wanted) {
            (Some(count), _) => among >= count,
            (None, Some(wanted)) => among >= wanted.len(),
            (None, None) => false,
        }
    });
    met.map(|number| format!("Matched rules at index {number}"))
}

fn failed_indexes(spec: &JobSpec, tracked: &Tracked) -> Option<Outcome> {
    let failed = tracked.failed_indexes.as_ref()?;
    if spec.max_failed_indexes.is_some_and(|most| failed.len() > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Outcome::new(false, "MaxFailedIndexesExceeded", message));
    }
    let all = failed.len() + tracked.completed.len() >= spec.completions.unwrap_or(i32::MAX);
    (failed.len() > 0 && all).then(|| Outcome::new(false, "FailedIndexes", "Job has failed indexes"))
}

pub fn deadline_left(job: &Job, spec: &JobSpec, now: Timestamp) -> Option<Duration> {
    let seconds = spec.active_deadline_seconds?;
    let started = job.status.as_ref()?.start_time.as_ref()?;
    if is_suspended(spec) {
        return None;
    }
    Some(Duration::from_secs_f64((seconds as f64 - meta::seconds_between(started, now)).max(0.0)))
}

/// Says how the Job ends; that it has ended only when `settled`: no pod runs, and all are counted.
pub fn tell(outcome: &Outcome, settled: bool, status: &mut JobStatus, now: &Time) {
    let (announced, final_) =
        if outcome.success { (SUCCESS_CRITERIA_MET, COMPLETE) } else { (FAILURE_TARGET, FAILED) };
    set(status, announced, true, &outcome.reason, &outcome.message, now);
    if settled {
        set(status, final_, true, &outcome.reason, &outcome.message, now);
        if outcome.success {
            status.completion_time = Some(now.clone());
        }
    }
}

/// Says whether the Job is suspended, and starts or stops its clock. True if that is new.
pub fn tell_suspended(spec: &JobSpec, status: &mut JobStatus, now: &Time) -> bool {
    let told = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == SUSPENDED && condition.status == "True");
    if is_suspended(spec) {
        if !told {
            set(status, SUSPENDED, true, "JobSuspended", "Job suspended", now);
            status.start_time = None;
        }
        return !told;
    }
    if told {
        set(status, SUSPENDED, false, "JobResumed", "Job resumed", now);
    }
    if status.start_time.is_none() {
        status.start_time = Some(now.clone());
    }
    told
}

fn set(status: &mut JobStatus, type_: &str, value: bool, reason: &str, message: &str, now: &Time) {
    let new = JobCondition {
        type_: type_.to_owned(),
        status: if value { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    };
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        None => conditions.push(new),
        Some(old) if old.status != new.status => *old = new,
        Some(_) => {}
    }
}
