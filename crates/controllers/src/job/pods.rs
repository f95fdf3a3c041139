//! Which pods a Job needs now, and what they look like. Free of IO.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use k8s_openapi::jiff::Timestamp;

use super::failure::{Verdict, judge};
use super::outcome::is_suspended;
use super::track::{self, FINALIZER, INDEX, INDEX_FAILURES, INDEX_IGNORED, Tracked};
use crate::kit::{meta, pods};

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// What to do about the pods of a Job that goes on.
#[derive(Debug, Default)]
pub struct Wanted {
    pub create: Vec<Pod>,
    pub delete: Vec<Arc<Pod>>,
    /// When the next index that has failed may be tried again.
    pub again: Option<Duration>,
}

/// `may_create` is false during the back-off after failures; where indexes fail by themselves, each has its own.
pub fn wanted(
    job: &Job,
    spec: &JobSpec,
    tracked: &Tracked,
    all: &[Arc<Pod>],
    may_create: bool,
    now: Timestamp,
) -> Wanted {
    let mut wanted = Wanted::default();
    if meta::is_terminating(job) {
        return wanted;
    }
    if is_suspended(spec) {
        wanted.delete = tracked.active.clone();
        return wanted;
    }
    let active = count(tracked.active.len());
    // Duplicates of an index can only come from a race long past.
    let duplicates = if track::is_indexed(spec) { superfluous(spec, tracked) } else { Vec::new() };
    let parallelism = spec.parallelism.unwrap_or(1);
    let target = match spec.completions {
        None if tracked.total_succeeded > 0 => active,
        None => parallelism,
        Some(completions) => parallelism.min(completions - tracked.total_succeeded).max(0),
    };
    if !duplicates.is_empty() {
        wanted.delete = duplicates;
    } else if active > target {
        let mut candidates = tracked.active.clone();
        candidates.sort_by_key(|pod| {
            (pods::is_ready(pod), std::cmp::Reverse(pod.metadata.creation_timestamp.clone()))
        });
        candidates.truncate(usize::try_from(active - target).unwrap_or(0));
        wanted.delete = candidates;
    } else if may_create || spec.backoff_limit_per_index.is_some() {
        let occupied = if track::replaces_failed_only(spec) { active + tracked.terminating } else { active };
        let missing = usize::try_from(target - occupied).unwrap_or(0);
        if track::is_indexed(spec) {
            let histories = histories(job, spec, all);
            for index in free_indexes(spec, tracked, all) {
                if wanted.create.len() >= missing {
                    break;
                }
                let history = histories.get(&index).copied().unwrap_or_default();
                let left = history.time_left(now);
                if spec.backoff_limit_per_index.is_some() && !left.is_zero() {
                    wanted.again = Some(wanted.again.map_or(left, |again| again.min(left)));
                } else {
                    wanted.create.push(indexed_pod(job, spec, index, history));
                }
            }
        } else {
            wanted.create = vec![plain_pod(job, spec); missing];
        }
    }
    wanted
}

fn count(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

fn superfluous(spec: &JobSpec, tracked: &Tracked) -> Vec<Arc<Pod>> {
    let mut seen = HashSet::new();
    let needed = |pod: &&Arc<Pod>| {
        let index = track::index_of(pod).filter(|index| *index < spec.completions.unwrap_or(0));
        index.is_some_and(|index| !tracked.completed.contains(index) && seen.insert(index))
    };
    let needed: HashSet<_> = tracked.active.iter().filter(needed).map(|pod| meta::uid(&**pod)).collect();
    tracked.active.iter().filter(|pod| !needed.contains(meta::uid(&***pod))).cloned().collect()
}

/// What has become of the earlier pods of an index.
#[derive(Clone, Copy, Debug, Default)]
struct IndexHistory {
    failures: i32,
    ignored: i32,
    last_ended: Option<Timestamp>,
}

impl IndexHistory {
    /// How long the index still has to wait: the longer, the more often it has failed.
    fn time_left(&self, now: Timestamp) -> Duration {
        let Some(ended) = self.last_ended.filter(|_| self.failures > 0) else { return Duration::ZERO };
        let delay = super::backoff(u32::try_from(self.failures).unwrap_or(0));
        delay.saturating_sub(Duration::try_from(now.duration_since(ended)).unwrap_or_default())
    }
}

fn histories(job: &Job, spec: &JobSpec, all: &[Arc<Pod>]) -> HashMap<i32, IndexHistory> {
    let mut histories: HashMap<i32, IndexHistory> = HashMap::new();
    for pod in all.iter().filter(|pod| track::has_failed(job, spec, pod)) {
        let Some(index) = track::index_of(pod) else { continue };
        let ignored = judge(job, pod) == Verdict::Ignore;
        let history = histories.entry(index).or_default();
        history.failures = history.failures.max(track::index_failures(pod) + i32::from(!ignored));
        history.ignored = history.ignored.max(track::index_ignored(pod) + i32::from(ignored));
        history.last_ended = history.last_ended.max(pods::ended_at(pod));
    }
    histories
}

/// The indexes that want a pod and have none, in order.
fn free_indexes<'a>(
    spec: &JobSpec,
    tracked: &'a Tracked,
    all: &[Arc<Pod>],
) -> impl Iterator<Item = i32> + use<'a> {
    let mut taken: HashSet<i32> = tracked.active.iter().filter_map(|pod| track::index_of(pod)).collect();
    if track::replaces_failed_only(spec) {
        let going = all.iter().filter(|pod| !pods::is_active(pod) && !pods::is_finished(pod));
        taken.extend(going.filter_map(|pod| track::index_of(pod)));
    }
    let failed = |index| tracked.failed_indexes.as_ref().is_some_and(|failed| failed.contains(index));
    (0..spec.completions.unwrap_or(0))
        .filter(move |index| !taken.contains(index) && !tracked.completed.contains(*index) && !failed(*index))
}

fn plain_pod(job: &Job, spec: &JobSpec) -> Pod {
    let owner = meta::controller_reference(job);
    let mut pod = pods::from_template(
        &spec.template,
        meta::namespace(job),
        Some(format!("{}-", meta::name(job))),
        owner,
    );
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    pod
}

fn indexed_pod(job: &Job, spec: &JobSpec, index: i32, history: IndexHistory) -> Pod {
    let mut pod = plain_pod(job, spec);
    let name = meta::name(job);
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if spec.backoff_limit_per_index.is_some() {
        annotations.insert(INDEX_FAILURES.to_owned(), history.failures.to_string());
        if history.ignored > 0 {
            annotations.insert(INDEX_IGNORED.to_owned(), history.ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let Some(pod_spec) = &mut pod.spec else { return pod };
    pod_spec.hostname = Some(format!("{name}-{index}"));
    let containers = pod_spec.containers.iter_mut().chain(pod_spec.init_containers.iter_mut().flatten());
    for container in containers {
        let variables = container.env.get_or_insert_default();
        if !variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
            variables.push(EnvVar {
                name: INDEX_VARIABLE.to_owned(),
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        field_path: format!("metadata.annotations['{INDEX}']"),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            });
        }
    }
    pod
}
