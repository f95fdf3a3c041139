//! Runs pods to their end: Job.

mod failure;
mod indexes;
mod measured;
mod orphans;
pub mod outcome;
mod pods;
#[cfg(test)]
mod tests;
mod track;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use parking_lot::Mutex;
use serde_json::json;

use crate::Loops;
use crate::kit::pods::is_active;
use crate::kit::{Controller, Key, Queue, SyncError, World, claim, meta};
use measured::Action;
use track::{FINALIZER, Tracked};

const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(600);
/// The controller that this is, where `spec.managedBy` names one.
const MANAGER: &str = "kubernetes.io/job-controller";

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.jobs.on(move |change| {
        if let Some(job) = change.object() {
            due.add(Key::of(&**job));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| {
        if let Some(pod) = change.new {
            let adopters = claim::adopters(&seen.jobs, &pod.metadata, selects);
            adopters.into_iter().for_each(|key| due.add(key));
        }
        for pod in change.old.iter().chain(&change.new) {
            if let Some(key) = meta::owner_key::<Job>(&pod.metadata) {
                let ended = change.new.is_none_or(|pod| !is_active(pod));
                if ended { due.add(key) } else { due.add_lazily(key) }
            }
        }
    });
    let controller = Jobs { world: world.clone(), failures: Mutex::default() };
    loops.add(controller, queue);
    orphans::start(world, loops);
}

fn selects(job: &Job, labels: Option<&meta::Labels>) -> bool {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| meta::selects_strictly(selector, labels))
}

struct Jobs {
    world: Arc<World>,
    /// Failures in a row and the last one's time, by the UID of the Job. Lost with the process, as upstream's is:
    /// then the next pod comes a little early.
    failures: Mutex<HashMap<String, (u32, Timestamp)>>,
}

impl Controller for Jobs {
    const NAME: &'static str = "job-controller";
    const QUEUE: &'static str = "job";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(job) = self.world.jobs.by_key(key) else {
            return self.release_orphans(key).await.map(|()| None);
        };
        let Some(spec) = &job.spec else { return Ok(None) };
        if spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
            return Ok(None);
        }
        let pods = self.pods_of(&job, spec).await?;
        if outcome::is_finished(&job) {
            self.failures.lock().remove(meta::uid(&*job));
            remove_finalizers(&self.world, pods.iter().filter(|pod| track::has_finalizer(pod))).await?;
            return Ok(None);
        }
        let (begun, mut action) = (Instant::now(), Action::default());
        let stepped = self.step(&job, spec, pods, &mut action).await;
        measured::synced(spec, action, stepped.is_ok(), begun.elapsed());
        stepped
    }
}

impl Jobs {
    async fn pods_of(&self, job: &Arc<Job>, spec: &JobSpec) -> Result<Vec<Arc<Pod>>, SyncError> {
        let picks = |labels: Option<&meta::Labels>| {
            spec.selector.as_ref().is_none_or(|selector| meta::selects_strictly(selector, labels))
        };
        if spec.selector.is_none() {
            return Ok(self.world.pods.by_controller(meta::uid(&**job)));
        }
        let mut pods = claim::claim(&**job, &self.world.pods, picks).await?;
        // One that was adopted is tracked from now on.
        let adopted = |pod: &Pod| is_active(pod) && !track::has_finalizer(pod);
        for pod in pods.iter_mut().filter(|pod| adopted(pod)) {
            let patch = json!({"metadata": {"uid": meta::uid(&**pod), "finalizers": [FINALIZER]}});
            *pod = self.world.pods.strategic_patch(&Key::of(&**pod), &patch).await?;
        }
        Ok(pods)
    }

    async fn step(
        &self,
        job: &Arc<Job>,
        spec: &JobSpec,
        pods: Vec<Arc<Pod>>,
        action: &mut Action,
    ) -> Result<Option<Duration>, SyncError> {
        let now = Timestamp::now();
        let mut tracked = track::track(job, spec, &pods, false);
        let mut ends = outcome::outcome(job, spec, &tracked, now);
        if ends.is_some() {
            tracked = track::track(job, spec, &pods, true);
        }

        // First the note that these pods are finished, then their finalizers.
        if !tracked.counted.is_empty() {
            *action = Action::Tracking;
            let mut status = job.status.clone().unwrap_or_default();
            tracked.tell(spec, &mut status);
            if let Some(ends) = &ends {
                outcome::tell(ends, false, &mut status, &meta::now());
            }
            self.note_failures(job, &tracked, now);
            self.write_status(job, status).await?;
            remove_finalizers(&self.world, tracked.counted.iter()).await?;
            measured::pods_counted(spec, &tracked.counted);
        }
        let Some(job) = self.world.jobs.by_key(&Key::of(&**job)) else { return Ok(None) };
        let backoff = self.backoff_left(&job, now);
        let mut next_index = None;
        if ends.is_some() {
            // Whoever is stopped by the end of the Job has failed, and is counted so: its finalizer stays until then.
            self.delete_pods(&job, &tracked.active).await?;
        } else {
            let pods = self.world.pods.by_controller(meta::uid(&*job));
            let wanted = pods::wanted(&job, spec, &tracked, &pods, backoff.is_zero(), now);
            next_index = wanted.again;
            if !wanted.delete.is_empty() {
                *action = Action::PodsDeleted;
            }
            self.delete(&job, &wanted.delete).await?;
            if !wanted.create.is_empty() {
                *action = Action::PodsCreated;
            }
            self.create(&job, wanted.create).await?;
        }

        // The view knows by now what has been written.
        let pods = self.world.pods.by_controller(meta::uid(&*job));
        tracked = track::track(&job, spec, &pods, ends.is_some());
        ends = ends.or_else(|| outcome::outcome(&job, spec, &tracked, now));
        let mut status = job.status.clone().unwrap_or_default();
        let turned = outcome::tell_suspended(spec, &mut status, &meta::now());
        tracked.tell(spec, &mut status);
        if let Some(ends) = &ends {
            let settled = tracked.active.is_empty() && tracked.terminating == 0 && tracked.is_settled();
            outcome::tell(ends, settled, &mut status, &meta::now());
        }
        self.tell_events(&job, spec, turned, &status);
        self.write_status(&job, status).await?;
        let deadline = outcome::deadline_left(&job, spec, now);
        let again = [deadline, next_index, Some(backoff).filter(|left| !left.is_zero() && ends.is_none())];
        Ok(again.into_iter().flatten().min())
    }

    async fn write_status(
        &self,
        job: &Arc<Job>,
        status: k8s_openapi::api::batch::v1::JobStatus,
    ) -> Result<(), SyncError> {
        if job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let updated = Job { status: Some(status), ..(**job).clone() };
        self.world.jobs.replace_status(&updated).await.map(drop)
    }

    fn tell_events(
        &self,
        job: &Arc<Job>,
        spec: &JobSpec,
        turned: bool,
        status: &k8s_openapi::api::batch::v1::JobStatus,
    ) {
        let events = &self.world.events;
        if turned {
            let (reason, message) = if outcome::is_suspended(spec) {
                ("Suspended", "Job suspended")
            } else {
                ("Resumed", "Job resumed")
            };
            events.normal(Self::NAME, &**job, reason, message);
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        for condition in status.conditions.iter().flatten() {
            match condition.type_.as_str() {
                outcome::COMPLETE => {
                    measured::job_finished(spec, true, &text(&condition.reason));
                    events.normal(Self::NAME, &**job, "Completed", "Job completed");
                }
                outcome::FAILED => {
                    measured::job_finished(spec, false, &text(&condition.reason));
                    events.warning(Self::NAME, &**job, &text(&condition.reason), text(&condition.message));
                }
                _ => {}
            }
        }
    }

    async fn create(&self, job: &Arc<Job>, mut pods: Vec<Pod>) -> Result<(), SyncError> {
        let mut batch = 1;
        while !pods.is_empty() {
            let now: Vec<Pod> = pods.drain(..batch.min(pods.len())).collect();
            let results = join_all(now.iter().map(|pod| self.world.pods.create(pod))).await;
            let mut failed = None;
            for result in results {
                match result {
                    Ok(pod) => {
                        let message = format!("Created pod: {}", meta::name(&*pod));
                        self.world.events.normal(Self::NAME, &**job, "SuccessfulCreate", message);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                if error.is_namespace_terminating() {
                    return Ok(());
                }
                let message = format!("Error creating: {}", error.api_message());
                self.world.events.warning(Self::NAME, &**job, "FailedCreate", message);
                return Err(error);
            }
            batch *= 2;
        }
        Ok(())
    }

    /// Pods of a Job that goes on are not counted when this controller sends them away itself.
    async fn delete(&self, job: &Arc<Job>, pods: &[Arc<Pod>]) -> Result<(), SyncError> {
        remove_finalizers(&self.world, pods.iter()).await?;
        self.delete_pods(job, pods).await
    }

    async fn delete_pods(&self, job: &Arc<Job>, pods: &[Arc<Pod>]) -> Result<(), SyncError> {
        for pod in pods {
            self.world.pods.delete(&**pod, DeleteParams::default()).await?;
            let message = format!("Deleted pod: {}", meta::name(&**pod));
            self.world.events.normal(Self::NAME, &**job, "SuccessfulDelete", message);
        }
        Ok(())
    }

    /// The Job is gone: nobody will count its pods any more.
    async fn release_orphans(&self, key: &Key) -> Result<(), SyncError> {
        let mut pods = self.world.pods.by_namespace(&key.namespace);
        pods.retain(|pod| {
            track::has_finalizer(pod) && meta::owner_key::<Job>(&pod.metadata).as_ref() == Some(key)
        });
        remove_finalizers(&self.world, pods.iter()).await
    }

    fn note_failures(&self, job: &Job, tracked: &Tracked, now: Timestamp) {
        let mut failures = self.failures.lock();
        if tracked.new_successes > 0 {
            failures.remove(meta::uid(job));
        }
        if tracked.new_failures > 0 {
            let (count, last) = failures.entry(meta::uid(job).to_owned()).or_insert((0, now));
            *count = count.saturating_add(u32::try_from(tracked.new_failures).unwrap_or(u32::MAX));
            *last = now;
        }
    }

    fn backoff_left(&self, job: &Job, now: Timestamp) -> Duration {
        let Some((count, last)) = self.failures.lock().get(meta::uid(job)).copied() else {
            return Duration::ZERO;
        };
        let delay = backoff(count);
        let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        delay.saturating_sub(passed)
    }
}

async fn remove_finalizers<'a>(
    world: &World,
    pods: impl Iterator<Item = &'a Arc<Pod>>,
) -> Result<(), SyncError> {
    let removals = pods.filter(|pod| track::has_finalizer(pod)).map(|pod| async {
        let patch =
            json!({"metadata": {"uid": meta::uid(&**pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        match world.pods.strategic_patch(&Key::of(&**pod), &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            // The last finalizer of a pod that is being deleted takes the pod with it.
            Err(_) => {
                world.pods.assume_deleted(&Key::of(&**pod), meta::uid(&**pod));
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    });
    join_all(removals).await.into_iter().collect()
}

/// How long after so many failures the next pod is made.
fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LAST_BACKOFF)
}
