//! Which run of a CronJob is due. Free of IO.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::schedule::Schedule;
use crate::kit::meta;

pub const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Runs missed in a row after which something is wrong with the clock, or with the one who set it.
const MANY_MISSED: usize = 100;

#[derive(Debug, PartialEq)]
pub struct Plan {
    /// The run that is due now.
    pub due: Option<Timestamp>,
    pub next: Option<Duration>,
    pub many_missed: bool,
    /// The run that it is too late for.
    pub too_late: Option<Timestamp>,
}

/// A CronJob that cannot run as it is written.
#[derive(Debug)]
pub enum Invalid {
    Schedule(String),
    /// The zone's name, and what is wrong with it.
    TimeZone(String, String),
}

/// A time as events tell it.
pub fn spoken(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

fn zone(spec: &CronJobSpec) -> Result<TimeZone, Invalid> {
    match &spec.time_zone {
        None => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(name).map_err(|error| Invalid::TimeZone(name.clone(), error.to_string())),
    }
}

/// Runs are due from the last one told (or from the birth of the CronJob) on; of several missed only the last is made.
pub fn plan(cron_job: &CronJob, spec: &CronJobSpec, now: Timestamp) -> Result<Plan, Invalid> {
    let schedule = Schedule::parse(&spec.schedule).map_err(Invalid::Schedule)?;
    let zone = zone(spec)?;
    let told = cron_job.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let birth = cron_job.metadata.creation_timestamp.as_ref();
    let mut since = told.or(birth).map_or(now, |time| time.0);
    if let Some(deadline) = spec.starting_deadline_seconds {
        let earliest = now.checked_sub(SignedDuration::from_secs(deadline)).unwrap_or(Timestamp::MIN);
        since = since.max(earliest);
    }
    let mut due = None;
    let mut missed = 0;
    while let Some(time) = schedule.next(due.unwrap_or(since), &zone).filter(|time| *time <= now) {
        due = Some(time);
        missed += 1;
        if missed > MANY_MISSED {
            // Not one after the other through what may be years: shortly before now is enough.
            due = last_before(&schedule, &zone, now).or(due);
            break;
        }
    }
    let late = |time: Timestamp| {
        let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        deadline.is_some_and(|deadline| now.duration_since(time) > deadline)
    };
    let too_late = due.filter(|due| late(*due));
    let next = schedule.next(now, &zone).and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    Ok(Plan { due: due.filter(|_| too_late.is_none()), next, many_missed: missed > MANY_MISSED, too_late })
}

/// The last scheduled time up to `now`, looked for in spans that grow.
fn last_before(schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    for hours in [1, 24, 24 * 32, 24 * 366, 24 * 366 * 9] {
        let mut last = None;
        let mut from = now.checked_sub(SignedDuration::from_hours(hours)).ok()?;
        while let Some(time) = schedule.next(from, zone).filter(|time| *time <= now) {
            last = Some(time);
            from = time;
        }
        if last.is_some() {
            return last;
        }
    }
    None
}

/// RFC 3339 with the offset of the zone.
fn in_zone(time: Timestamp, zone: TimeZone) -> String {
    let zoned = time.to_zoned(zone);
    if zoned.offset().is_zero() {
        return time.to_string();
    }
    zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// The Job of a run. Its name follows from the time, so that a run is never made twice.
pub fn job(cron_job: &CronJob, spec: &CronJobSpec, run: Timestamp) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let at = zone(spec).map_or_else(|_| run.to_string(), |zone| in_zone(run, zone));
    annotations.insert(SCHEDULED_AT.to_owned(), at);
    Job {
        metadata: ObjectMeta {
            namespace: cron_job.metadata.namespace.clone(),
            name: Some(format!("{}-{}", meta::name(cron_job), run.as_second() / 60)),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![meta::controller_reference(cron_job)]),
            ..Default::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_last_missed_run_is_due() {
        let check = |more: Value, last: Option<&str>, now: &str, expected: Option<&str>| {
            let mut spec = json!({"schedule": "0 * * * *", "timeZone": "UTC", "jobTemplate": {}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let status = last.map_or(json!({}), |last| json!({"lastScheduleTime": last}));
            let cron_job: CronJob = serde_json::from_value(json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:30:00Z"}, "spec": spec, "status": status})).unwrap();
            let plan = plan(&cron_job, &cron_job.spec, now.parse().unwrap()).unwrap();
            assert_eq!(plan.due.map(|due| due.to_string()).as_deref(), expected, "{now}");
            assert!(plan.next.is_some());
            plan.many_missed
        };
        let check_due = |more: Value, last, now, expected| assert!(!check(more, last, now, expected));
        check_due(json!({}), None, "2026-01-01T00:59:59Z", None);
        check_due(json!({}), None, "2026-01-01T01:00:00Z", Some("2026-01-01T01:00:00Z"));
        check_due(json!({}), Some("2026-01-01T01:00:00Z"), "2026-01-01T01:30:00Z", None);
        check_due(
            json!({}),
            Some("2026-01-01T01:00:00Z"),
            "2026-01-01T04:30:00Z",
            Some("2026-01-01T04:00:00Z"),
        );
        check_due(
            json!({"startingDeadlineSeconds": 60}),
            Some("2026-01-01T01:00:00Z"),
            "2026-01-01T04:30:00Z",
            None,
        );
        assert!(check(json!({}), None, "2027-01-01T00:00:30Z", Some("2027-01-01T00:00:00Z")));
    }
}
