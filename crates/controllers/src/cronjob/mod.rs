//! Makes Jobs by the clock: CronJob.

mod plan;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::DeleteParams;

use crate::Loops;
use crate::job::outcome::{self, COMPLETE, FAILED};
use crate::kit::meters::{CRON_JOB_SKEW, METERS};
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.cron_jobs.on(move |change| {
        if let Some(cron_job) = change.new {
            due.add(Key::of(&**cron_job));
        }
    });
    let due = queue.clone();
    world.jobs.on(move |change| {
        if let Some(key) = change.object().and_then(|job| meta::owner_key::<CronJob>(&job.metadata)) {
            due.add_lazily(key);
        }
    });
    loops.add(CronJobs { world: world.clone() }, queue);
}

struct CronJobs {
    world: Arc<World>,
}

impl Controller for CronJobs {
    const NAME: &'static str = "cronjob-controller";
    const QUEUE: &'static str = "cronjob";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(cron_job) = self.world.cron_jobs.by_key(key) else { return Ok(None) };
        let spec = &cron_job.spec;
        if meta::is_terminating(&*cron_job) {
            return Ok(None);
        }
        let mut status = cron_job.status.clone().unwrap_or_default();
        let jobs = self.world.jobs.by_controller(meta::uid(&*cron_job));
        self.note_finished(&cron_job, &jobs, &mut status);
        self.trim(&cron_job, spec, &jobs).await?;
        let again = self.run_if_due(&cron_job, spec, &jobs, &mut status).await?;
        if cron_job.status.as_ref() != Some(&status) {
            let updated = CronJob { status: Some(status), ..(*cron_job).clone() };
            self.world.cron_jobs.replace_status(&updated).await?;
        }
        Ok(again)
    }
}

impl CronJobs {
    fn note_finished(&self, cron_job: &Arc<CronJob>, jobs: &[Arc<Job>], status: &mut CronJobStatus) {
        for gone in status.active.iter().flatten() {
            if !jobs.iter().any(|job| job.metadata.uid == gone.uid) {
                let name = gone.name.as_deref().unwrap_or_default();
                let message = format!("Active job went missing: {name}");
                self.world.events.normal(Self::NAME, &**cron_job, "MissingJob", message);
            }
        }
        let mut active = Vec::new();
        for job in jobs.iter().filter(|job| !outcome::is_finished(job)) {
            let known = status.active.iter().flatten().any(|known| known.uid == job.metadata.uid);
            // One made here is known by its mark even if the note of it was lost to a conflict.
            if known || meta::annotation(&**job, plan::SCHEDULED_AT).is_some() {
                active.push(reference(job));
            } else {
                // Such as `kubectl create job --from` makes: it keeps no run from starting.
                let name = meta::name(&**job);
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                self.world.events.warning(Self::NAME, &**cron_job, "UnexpectedJob", message);
            }
        }
        for job in jobs.iter().filter(|job| outcome::is_finished(job)) {
            let was_active = status.active.iter().flatten().any(|active| active.uid == job.metadata.uid);
            let how = if has(job, COMPLETE) { COMPLETE } else { FAILED };
            if was_active {
                let message = format!("Saw completed job: {}, condition: {how}", meta::name(&**job));
                self.world.events.normal(Self::NAME, &**cron_job, "SawCompletedJob", message);
            }
            let ended = job.status.as_ref().and_then(|status| status.completion_time.clone());
            if how == COMPLETE && ended > status.last_successful_time {
                status.last_successful_time = ended;
            }
        }
        status.active = (!active.is_empty()).then_some(active);
    }

    /// Deletes the oldest finished Jobs beyond the limits.
    async fn trim(
        &self,
        cron_job: &Arc<CronJob>,
        spec: &CronJobSpec,
        jobs: &[Arc<Job>],
    ) -> Result<(), SyncError> {
        let limits = [
            (COMPLETE, spec.successful_jobs_history_limit.unwrap_or(3)),
            (FAILED, spec.failed_jobs_history_limit.unwrap_or(1)),
        ];
        for (how, limit) in limits {
            let mut finished: Vec<_> = jobs.iter().filter(|job| has(job, how)).collect();
            finished.sort_by_key(|job| job.status.as_ref().and_then(|status| status.start_time.clone()));
            let surplus = finished.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in finished.into_iter().take(surplus) {
                self.delete(cron_job, job).await?;
            }
        }
        Ok(())
    }

    async fn run_if_due(
        &self,
        cron_job: &Arc<CronJob>,
        spec: &CronJobSpec,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result<Option<Duration>, SyncError> {
        let events = &self.world.events;
        if spec.suspend == Some(true) {
            return Ok(None);
        }
        let plan = match plan::plan(cron_job, spec, Timestamp::now()) {
            Ok(plan) => plan,
            Err(plan::Invalid::Schedule(reason)) => {
                let message = format!("unparseable schedule: {:?} : {reason}", spec.schedule);
                events.warning(Self::NAME, &**cron_job, "UnparseableSchedule", message);
                return Ok(None);
            }
            Err(plan::Invalid::TimeZone(name, reason)) => {
                let message = format!("invalid timeZone: {name:?}: {reason}");
                events.warning(Self::NAME, &**cron_job, "UnknownTimeZone", message);
                return Ok(None);
            }
        };
        if plan.many_missed {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            events.warning(Self::NAME, &**cron_job, "TooManyMissedTimes", message);
        }
        if let Some(missed) = plan.too_late {
            let message = format!("Missed scheduled time to start a job: {}", plan::spoken(missed));
            events.warning(Self::NAME, &**cron_job, "MissSchedule", message);
        }
        let Some(run) = plan.due else { return Ok(plan.next) };
        let is_active =
            |job: &Job| status.active.iter().flatten().any(|active| active.uid == job.metadata.uid);
        let active: Vec<_> = jobs.iter().filter(|job| is_active(job)).collect();
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                events.normal(Self::NAME, &**cron_job, "JobAlreadyActive", message);
                return Ok(plan.next);
            }
            Some("Replace") => {
                for job in active {
                    self.delete(cron_job, job).await?;
                }
                status.active = None;
            }
            _ => {}
        }
        match self.world.jobs.create(&plan::job(cron_job, spec, run)).await {
            Ok(job) => {
                let late = Timestamp::now().duration_since(run).as_secs_f64();
                METERS.observe(CRON_JOB_SKEW, &[], late.max(0.0));
                events.normal(
                    Self::NAME,
                    &**cron_job,
                    "SuccessfulCreate",
                    format!("Created job {}", meta::name(&*job)),
                );
                status.active.get_or_insert_default().push(reference(&job));
            }
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => {}
            Err(error) => {
                events.warning(
                    Self::NAME,
                    &**cron_job,
                    "FailedCreate",
                    format!("Error creating job: {}", error.api_message()),
                );
                return Err(error);
            }
        }
        status.last_schedule_time = Some(Time(run));
        Ok(plan.next)
    }

    async fn delete(&self, cron_job: &Arc<CronJob>, job: &Arc<Job>) -> Result<(), SyncError> {
        self.world.jobs.delete(&**job, DeleteParams::background()).await?;
        let message = format!("Deleted job {}", meta::name(&**job));
        self.world.events.normal(Self::NAME, &**cron_job, "SuccessfulDelete", message);
        Ok(())
    }
}

fn has(job: &Job, type_: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

fn reference(job: &Job) -> ObjectReference {
    job.object_ref(&())
}
