//! Jobs and CronJobs.

use super::edit::{Object, each, get, has_items, missing, set, set_text};
use super::pod;

pub fn job(object: &mut Object) {
    labels_from_template(object);
    let Some(spec) = get(object, "spec") else { return };
    if missing(spec, "completions") && missing(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let limit = if missing(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    set(spec, "backoffLimit", limit);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
    let replacement = if missing(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    set(spec, "podReplacementPolicy", replacement);
    pod_failure_policy(spec);
    pod::template(spec);
}

/// A job without labels of its own takes those of its pods.
fn labels_from_template(object: &mut Object) {
    if get(object, "metadata").is_some_and(|m| has_items(m, "labels")) {
        return;
    }
    let labels = object
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/labels"))
        .filter(|labels| labels.as_object().is_some_and(|l| !l.is_empty()))
        .cloned();
    if let (Some(labels), Some(metadata)) = (labels, get(object, "metadata")) {
        metadata.insert("labels".into(), labels);
    }
}

fn pod_failure_policy(spec: &mut Object) {
    if let Some(policy) = get(spec, "podFailurePolicy") {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |condition| set_text(condition, "status", "True"));
        });
    }
}

pub fn cron_job(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    set_text(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = get(spec, "jobTemplate").and_then(|t| get(t, "spec")) {
        pod_failure_policy(job);
        pod::template(job);
    }
}
