//! Counting the pods of a Job, each exactly once.
//!
//! Pods hold a finalizer until they are counted. One that has finished is first noted in the status
//! (`uncountedTerminatedPods`); then its finalizer is removed; when that is seen, it moves from the note to the
//! counter. A crash at any point repeats a step, and never counts twice. Free of IO.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::failure::{Verdict, judge};
use super::indexes::Indexes;
use crate::kit::{meta, pods};

pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// Pods noted in a status at a time.
const MOST_UNCOUNTED: usize = 500;

/// The pods of a Job as they stand.
#[derive(Debug, Default)]
pub struct Tracked {
    pub active: Vec<Arc<Pod>>,
    pub ready: i32,
    /// Being deleted, but not finished yet.
    pub terminating: i32,
    /// Whose finalizer may go once the status below is written.
    pub counted: Vec<Arc<Pod>>,
    pub succeeded: i32,
    pub failed: i32,
    pub uncounted_succeeded: BTreeSet<String>,
    pub uncounted_failed: BTreeSet<String>,
    /// Including those that are only noted.
    pub total_succeeded: i32,
    pub total_failed: i32,
    pub completed: Indexes,
    pub failed_indexes: Option<Indexes>,
    /// Failures that were noted just now, and whether there was a success.
    pub new_failures: usize,
    pub new_successes: usize,
    /// Why the whole Job fails, if one of its pods says so.
    pub fail_job: Option<String>,
}

pub fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Replacements are only made for pods that have failed, not for those that are going.
pub fn replaces_failed_only(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

pub fn index_of(pod: &Pod) -> Option<i32> {
    meta::annotation(pod, INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// How often the index of a pod had failed when the pod was made.
pub fn index_failures(pod: &Pod) -> i32 {
    number(pod, INDEX_FAILURES)
}

/// How many failures of it had not counted by then.
pub fn index_ignored(pod: &Pod) -> i32 {
    number(pod, INDEX_IGNORED)
}

fn number(pod: &Pod, annotation: &str) -> i32 {
    meta::annotation(pod, annotation).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Of several pods of an index, the one that was made last has the highest.
fn attempt(pod: &Pod) -> i32 {
    index_failures(pod).saturating_add(index_ignored(pod))
}

pub fn has_finalizer(pod: &Pod) -> bool {
    meta::has_finalizer(&pod.metadata, FINALIZER)
}

fn has_succeeded(pod: &Pod) -> bool {
    pods::phase(pod) == "Succeeded"
}

pub fn has_failed(job: &Job, spec: &JobSpec, pod: &Pod) -> bool {
    let gone = meta::is_terminating(pod) && !has_succeeded(pod);
    pods::phase(pod) == "Failed" || (gone && (meta::is_terminating(job) || !replaces_failed_only(spec)))
}

/// `ending` is true once it is certain how the Job ends: then nothing is held back any more.
pub fn track(job: &Job, spec: &JobSpec, all: &[Arc<Pod>], ending: bool) -> Tracked {
    let status = job.status.clone().unwrap_or_default();
    let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let completions = spec.completions.unwrap_or(i32::MAX);
    let mut tracked = Tracked {
        succeeded: status.succeeded.unwrap_or(0),
        failed: status.failed.unwrap_or(0),
        completed: Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions),
        failed_indexes: spec
            .backoff_limit_per_index
            .map(|_| Indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions)),
        ..Tracked::default()
    };
    let held: HashMap<&str, &Arc<Pod>> =
        all.iter().filter(|pod| has_finalizer(pod)).map(|pod| (meta::uid(&**pod), pod)).collect();
    for uid in noted.succeeded.into_iter().flatten() {
        if held.contains_key(uid.as_str()) {
            tracked.uncounted_succeeded.insert(uid);
        } else {
            tracked.succeeded += 1;
        }
    }
    for uid in noted.failed.into_iter().flatten() {
        if held.contains_key(uid.as_str()) {
            tracked.uncounted_failed.insert(uid);
        } else {
            tracked.failed += 1;
        }
    }

    for pod in all {
        if pods::is_active(pod) {
            tracked.active.push(pod.clone());
            tracked.ready += i32::from(pods::is_ready(pod));
        } else if !pods::is_finished(pod) {
            tracked.terminating += 1;
        }
        if has_finalizer(pod) {
            let held_back = !ending && is_last_of_index(spec, pod, all);
            note(job, spec, pod, held_back, &mut tracked);
        }
    }
    if is_indexed(spec) {
        tracked.succeeded = tracked.completed.len();
    }
    let count = |set: &BTreeSet<String>| i32::try_from(set.len()).unwrap_or(i32::MAX);
    tracked.total_succeeded = tracked.succeeded + count(&tracked.uncounted_succeeded);
    tracked.total_failed = tracked.failed + count(&tracked.uncounted_failed);
    tracked
}

/// Whether a pod is the one that tells how often its index has failed so far. It must not vanish before its successor
/// carries that on.
fn is_last_of_index(spec: &JobSpec, pod: &Pod, all: &[Arc<Pod>]) -> bool {
    spec.backoff_limit_per_index.is_some()
        && index_of(pod).is_some_and(|index| {
            !all.iter().any(|other| index_of(other) == Some(index) && attempt(other) > attempt(pod))
        })
}

fn note(job: &Job, spec: &JobSpec, pod: &Arc<Pod>, held_back: bool, tracked: &mut Tracked) {
    let uid = meta::uid(&**pod).to_owned();
    if has_succeeded(pod) {
        if is_indexed(spec) {
            let index = index_of(pod).filter(|index| *index < spec.completions.unwrap_or(0));
            if let Some(index) = index
                && tracked.completed.insert(index)
            {
                tracked.new_successes += 1;
            }
        } else if tracked.uncounted_succeeded.len() >= MOST_UNCOUNTED {
            return;
        } else if tracked.uncounted_succeeded.insert(uid) {
            tracked.new_successes += 1;
        }
        tracked.counted.push(pod.clone());
    } else if has_failed(job, spec, pod) {
        let verdict = judge(job, pod);
        let limit = spec.backoff_limit_per_index.unwrap_or(i32::MAX);
        let goes_on = match verdict {
            Verdict::Ignore => true,
            Verdict::Count => index_failures(pod) < limit,
            Verdict::FailIndex | Verdict::FailJob(_) => false,
        };
        let needed = index_of(pod)
            .is_some_and(|index| index < spec.completions.unwrap_or(0) && !tracked.completed.contains(index));
        if held_back && goes_on && needed && !meta::is_terminating(job) {
            return;
        }
        if verdict != Verdict::Ignore {
            if tracked.uncounted_failed.len() >= MOST_UNCOUNTED {
                return;
            }
            if tracked.uncounted_failed.insert(uid) {
                tracked.new_failures += 1;
            }
        }
        match (&verdict, &mut tracked.failed_indexes, index_of(pod)) {
            (Verdict::FailJob(why), _, _) => tracked.fail_job = Some(why.clone()),
            (Verdict::FailIndex, Some(failed), Some(index)) => drop(failed.insert(index)),
            (Verdict::Count, Some(failed), Some(index)) if index_failures(pod) >= limit => {
                failed.insert(index);
            }
            _ => {}
        }
        tracked.counted.push(pod.clone());
    }
}

impl Tracked {
    /// Nothing is only noted any more.
    pub fn is_settled(&self) -> bool {
        self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty() && self.counted.is_empty()
    }

    /// Puts the counters into a status.
    pub fn tell(&self, spec: &JobSpec, status: &mut JobStatus) {
        let positive = |count: i32| (count > 0).then_some(count);
        status.active = positive(i32::try_from(self.active.len()).unwrap_or(i32::MAX));
        status.ready = Some(self.ready);
        status.terminating = Some(self.terminating);
        status.succeeded = positive(self.succeeded);
        status.failed = positive(self.failed);
        if is_indexed(spec) {
            let completed = self.completed.to_string();
            status.completed_indexes = (!completed.is_empty()).then_some(completed);
            status.failed_indexes = self.failed_indexes.as_ref().map(ToString::to_string);
        }
        let list = |set: &BTreeSet<String>| (!set.is_empty()).then(|| set.iter().cloned().collect());
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&self.uncounted_succeeded),
            failed: list(&self.uncounted_failed),
        });
    }
}
