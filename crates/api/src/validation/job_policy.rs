//! When a Job is given up, and when it is done before all of its indexes are.

use super::names;
use super::read::{given, items, not_negative, one_of, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITIONS: usize = 20;
const MAX_INDEXES_TEXT: usize = 64 << 10;

pub fn failure(spec: &Value, restart_policy: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let policy = &spec["podFailurePolicy"];
    if given(&spec["backoffLimitPerIndex"]) && !matches!(restart_policy, "" | "Always" | "Never") {
        restart_never(restart_policy, "backoffLimitPerIndex", path, errors);
    }
    if !given(policy) {
        return;
    }
    if restart_policy != "Never" {
        restart_never(restart_policy, "podFailurePolicy", path, errors);
    }
    let pod = &spec["template"]["spec"];
    let containers: Vec<&str> = items(&pod["containers"])
        .iter()
        .chain(items(&pod["initContainers"]))
        .map(|container| text(&container["name"]))
        .collect();
    let rules = path.child("podFailurePolicy");
    let rules = rules.child("rules");
    if items(&policy["rules"]).len() > MAX_RULES {
        errors.too_many(&rules, items(&policy["rules"]).len(), MAX_RULES);
        return;
    }
    for (i, rule) in items(&policy["rules"]).iter().enumerate() {
        let path = rules.index(i);
        action(rule, given(&spec["backoffLimitPerIndex"]), &path.child("action"), errors);
        let conditions = items(&rule["onPodConditions"]);
        match (given(&rule["onExitCodes"]), conditions.is_empty()) {
            (true, false) => {
                let why = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.invalid(&path, rule.clone(), why);
            }
            (false, true) => {
                let why = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.invalid(&path, rule.clone(), why);
            }
            _ => {}
        }
        if given(&rule["onExitCodes"]) {
            exit_codes(&rule["onExitCodes"], &containers, &path.child("onExitCodes"), errors);
        }
        pod_conditions(conditions, &path.child("onPodConditions"), errors);
    }
}

fn restart_never(policy: &str, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let template = path.child("template");
    let pod = template.child("spec");
    let why = format!("only \"Never\" is supported when {field} is specified");
    errors.invalid(&pod.child("restartPolicy"), policy, why);
}

fn action(rule: &Value, per_index: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(&rule["action"]) {
        "" => {
            let known = ACTIONS.map(crate::field::quote).join(", ");
            errors.required(path, format!("valid values: {known}"));
        }
        "FailIndex" if !per_index => {
            errors.invalid(path, "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
        _ => one_of(&rule["action"], &ACTIONS, path, errors),
    }
}

fn exit_codes(codes: &Value, containers: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let (operator, name) = (text(&codes["operator"]), text(&codes["containerName"]));
    match operator {
        "" => errors.required(&path.child("operator"), "valid values: \"In\", \"NotIn\""),
        _ => one_of(&codes["operator"], &["In", "NotIn"], &path.child("operator"), errors),
    }
    if given(&codes["containerName"]) && !containers.contains(&name) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), name, why);
    }
    let values = items(&codes["values"]);
    let list = path.child("values");
    if values.is_empty() {
        errors.invalid(&list, codes["values"].clone(), "at least one value is required");
    } else if values.len() > MAX_EXIT_CODES {
        errors.too_many(&list, values.len(), MAX_EXIT_CODES);
    }
    let mut seen = std::collections::HashSet::new();
    let mut ordered = true;
    let mut last = i64::MIN;
    for (i, value) in values.iter().enumerate() {
        let Some(code) = value.as_i64() else { continue };
        if operator == "In" && code == 0 {
            errors.invalid(&list.index(i), code, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errors.duplicate(&list.index(i), code);
        }
        ordered &= last <= code;
        last = code;
    }
    if !ordered {
        errors.invalid(&list, codes["values"].clone(), "must be ordered");
    }
}

fn pod_conditions(conditions: &[Value], path: &Path<'_>, errors: &mut FieldErrors) {
    if conditions.len() > MAX_CONDITIONS {
        errors.too_many(path, conditions.len(), MAX_CONDITIONS);
        return;
    }
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        if let Some(problem) = names::qualified_name(text(&condition["type"])) {
            errors.invalid(&path.child("type"), condition["type"].clone(), problem);
        }
        match text(&condition["status"]) {
            "" => errors.required(&path.child("status"), "valid values: \"False\", \"True\", \"Unknown\""),
            _ => one_of(&condition["status"], &["False", "True", "Unknown"], &path.child("status"), errors),
        }
    }
}

pub fn success(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let policy = &spec["successPolicy"];
    if !given(policy) {
        return;
    }
    let path = path.child("successPolicy");
    if text(&spec["completionMode"]) != "Indexed" {
        errors.invalid(&path, policy.clone(), "requires indexed completion mode");
        return;
    }
    let rules = path.child("rules");
    let count = items(&policy["rules"]).len();
    if count == 0 {
        errors.required(&rules, "at least one rules must be specified when the successPolicy is specified");
    } else if count > MAX_RULES {
        errors.too_many(&rules, count, MAX_RULES);
    }
    let completions = spec["completions"].as_i64().unwrap_or(0);
    for (i, rule) in items(&policy["rules"]).iter().enumerate() {
        success_rule(rule, completions, &rules.index(i), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path<'_>, errors: &mut FieldErrors) {
    let (indexes, count) = (&rule["succeededIndexes"], &rule["succeededCount"]);
    if !given(indexes) && !given(count) {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.required(path, why);
        return;
    }
    let mut total = None;
    if given(indexes) {
        let path = path.child("succeededIndexes");
        if text(indexes).len() > MAX_INDEXES_TEXT {
            errors.too_long(&path, MAX_INDEXES_TEXT);
        } else {
            match count_indexes(text(indexes), completions) {
                Ok(n) => total = Some(n),
                Err(why) => {
                    errors.invalid(&path, indexes.clone(), format!("error parsing succeededIndexes: {why}"));
                }
            }
        }
    }
    let path = path.child("succeededCount");
    if let Some(n) = count.as_i64() {
        not_negative(count, &path, errors);
        if n > completions {
            let why =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&path, n, why);
        }
        if let Some(total) = total.filter(|total| n > *total) {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.invalid(&path, n, why);
        }
    }
}

/// How many indexes `1,3-5,7` names.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let intervals = parse_indexes(text, completions)?;
    Ok(intervals.iter().map(|(first, last)| last - first + 1).sum())
}

/// The intervals that `1,3-5,7` names; they have to rise, and to be of indexes that the Job has.
pub fn parse_indexes(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut intervals = Vec::new();
    if text.is_empty() {
        return Ok(intervals);
    }
    let mut next = 0;
    for interval in text.split(',') {
        let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
        let number = |part: &str| -> Result<i64, String> {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let parsed = digits.then(|| part.parse::<i64>().ok()).flatten();
            let quoted = crate::field::quote(part);
            let n = parsed.ok_or_else(|| format!("cannot convert string to integer for index: {quoted}"))?;
            if n >= completions {
                return Err(format!("too large index: {quoted}"));
            }
            Ok(n)
        };
        if last.contains('-') {
            return Err(format!(
                "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
                crate::field::quote(interval)
            ));
        }
        let (first, last) = (number(first)?, number(last)?);
        if first > last || first < next {
            return Err(format!("non-increasing order, previous: {}, current: {first}", next - 1));
        }
        intervals.push((first, last));
        next = last + 1;
    }
    Ok(intervals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (text, want) in [("0", Some(1)), ("1,3-5,7", Some(5)), ("", Some(0)), ("9", Some(1))] {
            assert_eq!(count_indexes(text, 10).ok(), want, "{text}");
        }
        for bad in ["10", "3-1", "1,1", "1-2-3", "a", "-1", ",", "1-"] {
            assert!(count_indexes(bad, 10).is_err(), "{bad}");
        }
    }
}
