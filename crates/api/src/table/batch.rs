//! Jobs and cron jobs.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    NONE, age, condition_is_true, flag, int, is_deleted, label_selector, list, name, since_at, text, text_or,
    title_bool,
};
use super::duration::human_duration;
use super::workloads::template;
use super::{AGE, NAME, Printer, column, number, wide};

static JOB: Printer = Printer {
    columns: &[
        NAME,
        column("Status", "Status of the job."),
        column("Completions", "Number of the pod with succeeded state out of those wanted."),
        column("Duration", "Time required to complete the job."),
        AGE,
        wide("Containers", "Names of each container in the template."),
        wide("Images", "Images referenced by each container in the template."),
        wide("Selector", "Label selector for pods."),
    ],
    cells: |object, now| {
        let mut cells = vec![
            name(object),
            job_status(object).into(),
            completions(object).into(),
            duration(object, now).into(),
            age(object, now),
        ];
        cells.extend(template(object));
        cells.push(label_selector(object, "/spec/selector").into());
        cells
    },
};

static CRON_JOB: Printer = Printer {
    columns: &[
        NAME,
        column("Schedule", "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron."),
        column("Timezone", "The time zone name for the given schedule."),
        column("Suspend", "This flag tells the controller to suspend subsequent executions."),
        number("Active", "A list of pointers to currently running jobs."),
        column("Last Schedule", "Information when was the last time the job was successfully scheduled."),
        AGE,
        wide("Containers", "Names of each container in the template."),
        wide("Images", "Images referenced by each container in the template."),
        wide("Selector", "Label selector for pods."),
    ],
    cells: |object, now| {
        let last = match text(object, "/status/lastScheduleTime") {
            "" => NONE.to_owned(),
            _ => since_at(object, "/status/lastScheduleTime", now),
        };
        let job = object.pointer("/spec/jobTemplate").unwrap_or(&Value::Null);
        let mut cells = vec![
            name(object),
            text(object, "/spec/schedule").into(),
            text_or(object, "/spec/timeZone", NONE).into(),
            title_bool(flag(object, "/spec/suspend")).into(),
            list(object, "/status/active").len().into(),
            last.into(),
            age(object, now),
        ];
        cells.extend(template(job));
        cells.push(label_selector(job, "/spec/selector").into());
        cells
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "Job" => Some(&JOB),
        "CronJob" => Some(&CRON_JOB),
        _ => None,
    }
}

fn job_status(job: &Value) -> &'static str {
    match () {
        () if condition_is_true(job, "Complete") => "Complete",
        () if condition_is_true(job, "Failed") => "Failed",
        () if is_deleted(job) => "Terminating",
        () if condition_is_true(job, "Suspended") => "Suspended",
        () if condition_is_true(job, "FailureTarget") => "FailureTarget",
        () if condition_is_true(job, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = int(job, "/status/succeeded");
    match (job.pointer("/spec/completions").and_then(Value::as_i64), int(job, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

/// Until completion, or until now. A job that never started shows nothing.
fn duration(job: &Value, now: Timestamp) -> String {
    let time = |pointer| text(job, pointer).parse::<Timestamp>().ok();
    match (time("/status/startTime"), time("/status/completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => human_duration(end.unwrap_or(now).as_second() - start.as_second()),
    }
}
