//! What may be said of a Job, by whichever controller manages it.
//!
//! Clients act on how a Job ended, so an end is told once and whole. Most rules look only at what a write changes:
//! what the Job's spec has made wrong is for its controller to put right, in its own time.

use super::job_policy::parse_indexes;
use super::read::{given, is_empty, items, same, text};
use crate::field::{FieldError, FieldErrorKind, FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const STATUS: Path<'static> = Path::new("status");
const TERMINAL: [&str; 4] = ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"];

pub fn status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let now = &new["status"];
    uncounted(&now["uncountedTerminatedPods"], errors);
    ends(new, old, errors);
    indexes(new, old, errors);
    let ready = now["ready"].as_i64().unwrap_or(0);
    if (changed(new, old, "ready") || changed(new, old, "active")) && ready > count(now, "active") {
        errors.invalid(&STATUS.child("ready"), ready, "cannot set more ready pods than active");
    }
    onward(new, old, errors);
}

fn count(status: &Value, field: &str) -> i64 {
    status[field].as_i64().unwrap_or(0)
}

fn changed(new: &Value, old: &Value, field: &str) -> bool {
    !same(&new["status"][field], &old["status"][field])
}

/// Whether a condition of that type is true.
fn is(job: &Value, kind: &str) -> bool {
    let told = items(&job["status"]["conditions"]);
    told.iter().any(|c| text(&c["type"]) == kind && text(&c["status"]) == "True")
}

fn is_finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

/// What is wrong with the conditions together; they are too long to be shown.
fn conditions(errors: &mut FieldErrors, why: impl Into<String>) {
    let path = STATUS.child("conditions");
    errors.push(FieldError::without_value(FieldErrorKind::Invalid, &path, why));
}

fn uncounted(pods: &Value, errors: &mut FieldErrors) {
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        let path = path.child(list);
        for (i, uid) in items(&pods[list]).iter().enumerate() {
            if text(uid).is_empty() {
                errors.invalid(&path.index(i), "", "must not be empty");
            } else if !seen.insert(text(uid)) {
                errors.duplicate(&path.index(i), uid.clone());
            }
        }
    }
}

/// How a Job ends, and what cannot be while it has.
fn ends(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let turned = |kind: &str| is(new, kind) != is(old, kind);
    let now = &new["status"];
    let complete = is(new, "Complete");
    if complete && is(new, "Failed") && (turned("Complete") || turned("Failed")) {
        conditions(errors, "cannot set Complete=True and Failed=true conditions");
    }
    if complete && is(new, "FailureTarget") && (turned("Complete") || turned("FailureTarget")) {
        conditions(errors, "cannot set Complete=True and FailureTarget=true conditions");
    }
    let success = is(new, "SuccessCriteriaMet");
    for kind in ["Failed", "FailureTarget"] {
        if success && is(new, kind) && (turned("SuccessCriteriaMet") || turned(kind)) {
            conditions(errors, format!("cannot set {kind}=True and SuccessCriteriaMet=true conditions"));
        }
    }
    for (end, first) in [("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")] {
        if is(new, end) && !is(new, first) && turned(end) {
            conditions(errors, format!("cannot set {end}=True condition without the {first}=true condition"));
        }
    }
    let (begun, done) = (&now["startTime"], &now["completionTime"]);
    let done_path = STATUS.child("completionTime");
    let told_done = turned("Complete") || changed(new, old, "completionTime");
    if given(done) && !complete && told_done {
        let why = "cannot set completionTime when there is no Complete=True condition";
        errors.invalid(&done_path, done.clone(), why);
    }
    if !given(done) && complete && told_done {
        errors.required(&done_path, "completionTime is required for Complete jobs");
    }
    // Times of one form: they sort as what they mean.
    if given(begun) && given(done) && text(done) < text(begun) {
        errors.invalid(&done_path, done.clone(), "completionTime cannot be set before startTime");
    }
    if !is_finished(new) {
        return;
    }
    let just = !is_finished(old);
    for field in ["active", "terminating"] {
        if count(now, field) > 0 && (just || changed(new, old, field)) {
            let why = format!("{field}>0 is invalid for finished job");
            errors.invalid(&STATUS.child(field), now[field].clone(), why);
        }
    }
    if !given(begun) && (just || changed(new, old, "startTime")) {
        errors.required(&STATUS.child("startTime"), "startTime is required for finished job");
    }
    let field = "uncountedTerminatedPods";
    let left = ["succeeded", "failed"].iter().any(|list| !is_empty(&now[field][*list]));
    if left && (just || changed(new, old, field)) {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        errors.invalid(&STATUS.child(field), now[field].clone(), why);
    }
}

fn indexes(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, now) = (&new["spec"], &new["status"]);
    let mut parsed = Vec::new();
    let mut any_changed = false;
    for field in ["completedIndexes", "failedIndexes"] {
        let path = STATUS.child(field);
        let told = &now[field];
        let is_changed = changed(new, old, field);
        any_changed |= is_changed;
        match parse_indexes(text(told), spec["completions"].as_i64().unwrap_or(0)) {
            Ok(found) => parsed.push(found),
            Err(why) if is_changed && given(&spec["completions"]) => {
                errors.invalid(&path, told.clone(), format!("error parsing {field}: {why}"));
            }
            Err(_) => {}
        }
        if is_changed && !is_empty(told) {
            if field == "completedIndexes" && text(&spec["completionMode"]) != "Indexed" {
                let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
                errors.invalid(&path, told.clone(), why);
            } else if field == "failedIndexes" && !given(&spec["backoffLimitPerIndex"]) {
                let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
                errors.invalid(&path, told.clone(), why);
            }
        }
    }
    if let [completed, failed] = parsed.as_slice()
        && any_changed
        && let Some(index) = first_common(completed, failed)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.invalid(&STATUS.child("failedIndexes"), now["failedIndexes"].clone(), why);
    }
}

/// The first index in intervals of both; each list is in order.
fn first_common(a: &[(i64, i64)], b: &[(i64, i64)]) -> Option<i64> {
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    while let (Some((from, to)), Some((other_from, other_to))) = (left.peek(), right.peek()) {
        if from.max(other_from) <= to.min(other_to) {
            return Some(*from.max(other_from));
        }
        if to < other_to {
            left.next();
        } else {
            right.next();
        }
    }
    None
}

/// What was told and stays told.
fn onward(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (now, before, spec) = (&new["status"], &old["status"], &new["spec"]);
    // An elastic Job may become smaller.
    let elastic = text(&spec["completionMode"]) == "Indexed" && spec["completions"] == spec["parallelism"];
    for field in ["succeeded", "failed"] {
        if count(now, field) < count(before, field) && !(field == "succeeded" && elastic) {
            let why = format!("cannot decrease the {field} counter");
            errors.invalid(&STATUS.child(field), count(now, field), why);
        }
    }
    for kind in TERMINAL {
        if is(old, kind) && !is(new, kind) {
            let kind = crate::field::quote(kind);
            conditions(errors, format!("cannot disable the terminal Job condition {kind}"));
        }
    }
    let begun = STATUS.child("startTime");
    if given(&before["startTime"]) && changed(new, old, "startTime") && spec["suspend"] != true {
        let what = if given(&now["startTime"]) { "updated" } else { "removed" };
        errors.required(&begun, format!("startTime cannot be {what} for unsuspended job"));
    }
    if given(&before["completionTime"]) && changed(new, old, "completionTime") {
        let why = "completionTime cannot be mutated";
        errors.invalid(&STATUS.child("completionTime"), now["completionTime"].clone(), why);
    }
}
