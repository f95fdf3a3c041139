//! Jobs and CronJobs.

use super::addresses::domain_prefixed;
use super::read::{IMMUTABLE, given, is_true, not_negative, one_of, same, text, unchanged};
use super::{cron, job_policy, names, pod, selector};
use crate::field::{FieldErrors, Path};
use crate::selector::LabelSelector;
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");
const MAX_MANAGER: usize = 63;
/// From here on there are so many indexes that fewer may run and fail at a time.
const MAX_INDEXES: i64 = 100_000;
const MANY: i64 = 10_000;

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
        if spec["parallelism"].as_i64().is_some_and(|n| n > MAX_INDEXES) {
            let why = format!("must be less than or equal to {MAX_INDEXES}");
            errors.invalid(&path.child("parallelism"), spec["parallelism"].clone(), why);
        }
        indexes(spec, path, errors);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if given(&spec[field]) {
                let detail = "requires indexed completion mode";
                errors.invalid(&path.child(field), spec[field].clone(), detail);
            }
        }
    }
    let replacements: &[&str] =
        if given(&spec["podFailurePolicy"]) { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(&spec["podReplacementPolicy"], replacements, &path.child("podReplacementPolicy"), errors);
    if given(&spec["managedBy"]) {
        let path = path.child("managedBy");
        domain_prefixed(text(&spec["managedBy"]), &path, errors);
        if text(&spec["managedBy"]).len() > MAX_MANAGER {
            errors.too_long(&path, MAX_MANAGER);
        }
    }
    pod::template(spec, path, errors);
    let template = path.child("template");
    let pod_path = template.child("spec");
    let policy = text(&spec["template"]["spec"]["restartPolicy"]);
    let policy_path = pod_path.child("restartPolicy");
    // A policy that does not exist has been reported with the template.
    if matches!(policy, "" | "Always") {
        errors.required(&policy_path, "valid values: \"OnFailure\", \"Never\"");
    }
    job_policy::failure(spec, policy, path, errors);
    job_policy::success(spec, path, errors);
}

/// How many indexes there may be where failures are counted for each.
fn indexes(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let number = |field: &str| spec[field].as_i64();
    let completions = number("completions").unwrap_or(0);
    let at_most = |field: &str, most: i64, why: String, errors: &mut FieldErrors| {
        if number(field).is_some_and(|n| n > most) {
            errors.invalid(&path.child(field), spec[field].clone(), why);
        }
    };
    if given(&spec["backoffLimitPerIndex"]) {
        at_most("completions", 1_000_000_000, "must be less than or equal to 1000000000".to_owned(), errors);
        at_most(
            "maxFailedIndexes",
            MAX_INDEXES,
            format!("must be less than or equal to {MAX_INDEXES}"),
            errors,
        );
        if completions > MAX_INDEXES {
            let why = format!(
                "must be less than or equal to {MANY} when completions are above {MAX_INDEXES} and used with backoff limit per index"
            );
            at_most("parallelism", MANY, why.clone(), errors);
            at_most("maxFailedIndexes", MANY, why, errors);
            if !given(&spec["maxFailedIndexes"]) {
                let why = format!("must be specified when completions is above {MAX_INDEXES}");
                errors.required(&path.child("maxFailedIndexes"), why);
            }
        }
    } else if given(&spec["maxFailedIndexes"]) {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if given(&spec["completions"]) {
        at_most(
            "maxFailedIndexes",
            completions,
            "must be less than or equal to completions".to_owned(),
            errors,
        );
    }
}

/// The pods of an indexed job are hosts with names of their own.
fn host_names(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let name = text(&object["metadata"]["name"]);
    let Some(last) =
        spec["completions"].as_i64().filter(|n| *n > 0 && text(&spec["completionMode"]) == "Indexed")
    else {
        return;
    };
    if let Some(problem) = names::dns1123_label(&format!("{name}-{}", last - 1)) {
        let why = format!("will not able to create pod with invalid DNS label: {problem}");
        errors.invalid(&Path::new("metadata").child("name"), name, why);
    }
}

pub fn job_create(object: &Value, errors: &mut FieldErrors) {
    job(object, errors);
    host_names(object, errors);
}

pub fn job_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new_spec, old_spec) = (&new["spec"], &old["spec"]);
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
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
    let suspended = is_true(&old_spec["suspend"]);
    let started = given(&old["status"]["startTime"]);
    let (now, before) = match suspended && !started {
        true => (fixed(&new_spec["template"]), fixed(&old_spec["template"])),
        false => (new_spec["template"].clone(), old_spec["template"].clone()),
    };
    if now != before && !same(&now, &before) {
        errors.invalid(&SPEC.child("template"), new_spec["template"].clone(), IMMUTABLE);
    }
}

/// What of its template a job that has not started cannot change: all but where its pods go and what they may use,
/// which a queue decides when it lets them in.
fn fixed(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| field != "labels" && field != "annotations");
    }
    if template["metadata"].as_object().is_none_or(serde_json::Map::is_empty)
        && let Some(template) = template.as_object_mut()
    {
        template.remove("metadata");
    }
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates", "resources"] {
            spec.remove(field);
        }
        for list in ["containers", "initContainers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for container in containers.filter_map(Value::as_object_mut) {
                container.remove("resources");
            }
        }
    }
    template
}

pub fn cron_job_create(object: &Value, errors: &mut FieldErrors) {
    let name = text(&object["metadata"]["name"]);
    if name.len() > 52 {
        // Eleven more characters go into the names of its jobs.
        errors.invalid(&Path::new("metadata").child("name"), name, "must be no more than 52 characters");
    }
    cron_job(object, errors);
}

pub fn cron_job(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
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
