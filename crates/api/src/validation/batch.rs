//! Jobs and CronJobs.

use super::read::{IMMUTABLE, given, in_range, is_true, items, not_negative, one_of, same, text, unchanged};
use super::{cron, pod, selector};
use crate::field::{FieldErrors, Path};
use crate::selector::LabelSelector;
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");

pub fn job(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    job_spec(spec, &SPEC, errors);
    // Without a selector of its own a job gets one, and the labels for it, when it is made.
    let job_selector = &spec["selector"];
    if given(job_selector) {
        selector::label_selector(job_selector, &SPEC.child("selector"), errors);
        let labels = &spec["template"]["metadata"]["labels"];
        if LabelSelector::from_object(Some(job_selector)).is_ok_and(|s| !s.matches(labels)) {
            selector::mismatch(labels, &SPEC, errors);
        }
    } else if is_true(&spec["manualSelector"]) {
        errors.required(&SPEC.child("selector"), "");
    }
}

fn job_spec(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(&spec[field], &path.child(field), errors);
    }
    let mode = text(&spec["completionMode"]);
    if !mode.is_empty() {
        one_of(&spec["completionMode"], &["NonIndexed", "Indexed"], &path.child("completionMode"), errors);
    }
    if mode == "Indexed" {
        if !given(&spec["completions"]) {
            errors.required(&path.child("completions"), "when completion mode is Indexed");
        }
        in_range(&spec["parallelism"], 0, 100_000, &path.child("parallelism"), errors);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if given(&spec[field]) {
                let detail = "requires indexed completion mode";
                errors.invalid(&path.child(field), spec[field].clone(), detail);
            }
        }
    }
    one_of(
        &spec["podReplacementPolicy"],
        &["Failed", "TerminatingOrFailed"],
        &path.child("podReplacementPolicy"),
        errors,
    );
    pod::template(spec, path, errors);
    let template = path.child("template");
    let pod_path = template.child("spec");
    let policy = text(&spec["template"]["spec"]["restartPolicy"]);
    let policy_path = pod_path.child("restartPolicy");
    // A policy that does not exist has been reported with the template.
    if matches!(policy, "" | "Always") {
        errors.required(&policy_path, "valid values: \"OnFailure\", \"Never\"");
    }
    failure_policy(spec, policy, path, errors);
}

fn failure_policy(spec: &Value, restart_policy: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let policy = &spec["podFailurePolicy"];
    if !given(policy) {
        return;
    }
    if restart_policy != "Never" {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        let template = path.child("template");
        let pod = template.child("spec");
        errors.invalid(&pod.child("restartPolicy"), restart_policy, detail);
    }
    let path = path.child("podFailurePolicy");
    let rules = path.child("rules");
    for (i, rule) in items(&policy["rules"]).iter().enumerate() {
        let path = rules.index(i);
        let action = text(&rule["action"]);
        if action.is_empty() {
            errors.required(
                &path.child("action"),
                "valid values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
            );
        } else {
            one_of(
                &rule["action"],
                &["Count", "FailIndex", "FailJob", "Ignore"],
                &path.child("action"),
                errors,
            );
        }
        match (given(&rule["onExitCodes"]), items(&rule["onPodConditions"]).is_empty()) {
            (true, false) => {
                errors.invalid(
                    &path,
                    rule.clone(),
                    "specifying both OnExitCodes and OnPodConditions is not supported",
                );
            }
            (false, true) => {
                errors.invalid(
                    &path,
                    rule.clone(),
                    "specifying one of OnExitCodes and OnPodConditions is required",
                );
            }
            _ => {}
        }
    }
}

pub fn job_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new_spec, old_spec) = (&new["spec"], &old["spec"]);
    for field in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"] {
        unchanged(&new_spec[field], &old_spec[field], &SPEC.child(field), errors);
    }
    if !same(&new_spec["completions"], &old_spec["completions"]) {
        // An indexed job may grow and shrink together with its parallelism.
        let elastic = text(&new_spec["completionMode"]) == "Indexed"
            && new_spec["completions"] == new_spec["parallelism"]
            && old_spec["completions"] == old_spec["parallelism"];
        if !elastic {
            errors.invalid(&SPEC.child("completions"), new_spec["completions"].clone(), IMMUTABLE);
        }
    }
    let never_started = is_true(&old_spec["suspend"]) && !given(&old["status"]["startTime"]);
    if !same(&new_spec["template"], &old_spec["template"]) && !never_started {
        errors.invalid(&SPEC.child("template"), new_spec["template"].clone(), IMMUTABLE);
    }
}

pub fn cron_job(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let name = text(&object["metadata"]["name"]);
    if name.len() > 52 {
        // Eleven more characters go into the names of its jobs.
        errors.invalid(&Path::new("metadata").child("name"), name, "must be no more than 52 characters");
    }
    let schedule = text(&spec["schedule"]);
    if schedule.is_empty() {
        errors.required(&SPEC.child("schedule"), "");
    } else if let Err(problem) = cron::check(schedule) {
        errors.invalid(&SPEC.child("schedule"), schedule, problem);
    }
    if given(&spec["timeZone"]) {
        time_zone(&spec["timeZone"], &SPEC.child("timeZone"), errors);
    }
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(&spec[field], &SPEC.child(field), errors);
    }
    match text(&spec["concurrencyPolicy"]) {
        "" => errors.required(&SPEC.child("concurrencyPolicy"), ""),
        _ => one_of(
            &spec["concurrencyPolicy"],
            &["Allow", "Forbid", "Replace"],
            &SPEC.child("concurrencyPolicy"),
            errors,
        ),
    }
    let template = SPEC.child("jobTemplate");
    let path = template.child("spec");
    let job = &spec["jobTemplate"]["spec"];
    if is_true(&job["manualSelector"]) {
        errors.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
    if given(&job["selector"]) {
        errors.invalid(&path.child("selector"), job["selector"].clone(), "`selector` will be auto-generated");
    }
    job_spec(job, &path, errors);
}

fn time_zone(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(value);
    if name.is_empty() {
        errors.invalid(path, name, "timeZone must be nil or non-empty string");
    } else if name.eq_ignore_ascii_case("local") {
        errors.invalid(
            path,
            name,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    } else if jiff::tz::TimeZone::get(name).is_err() {
        errors.invalid(path, name, format!("unknown time zone {name}"));
    }
}
