//! Jobs and CronJobs.

use super::*;

#[test]
fn jobs() {
    check("batch/v1", "Job", job(json!({})), &[]);
    check(
        "batch/v1",
        "Job",
        job(json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}})),
        &[r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#],
    );
    check(
        "batch/v1",
        "Job",
        job(json!({"completionMode": "Indexed", "completions": null, "parallelism": 2})),
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    check_update(
        "batch/v1",
        "Job",
        job(json!({"completions": 1})),
        job(json!({"completions": 2, "parallelism": 3})),
        &["spec.completions: Invalid value: 2: field is immutable"],
    );
    let cron = |schedule: &str| json!({"spec": {"schedule": schedule, "jobTemplate": job(json!({}))}});
    check("batch/v1", "CronJob", cron("*/5 * * * *"), &[]);
    check(
        "batch/v1",
        "CronJob",
        cron("x"),
        &[r#"spec.schedule: Invalid value: "x": expected exactly 5 fields, found 1: [x]"#],
    );
}

/// A job of this spec, whose pods never restart.
fn job(spec: Value) -> Value {
    let mut s = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    s.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": s})
}

#[test]
fn failure_policies() {
    let policy = |rule: Value| job(json!({"podFailurePolicy": {"rules": [rule]}}));
    let codes = |values: Value| json!({"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": values}});
    check("batch/v1", "Job", policy(codes(json!([1, 42]))), &[]);
    check(
        "batch/v1",
        "Job",
        policy(codes(json!([42, 1, 0]))),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [42,1,0]: must be ordered",
        ],
    );
    check(
        "batch/v1",
        "Job",
        policy(
            json!({"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget", "status": "Maybe"}]}),
        ),
        &[
            r#"spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set"#,
            r#"spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown""#,
        ],
    );
}

#[test]
fn indexed_jobs() {
    let indexed = |spec: Value| {
        let mut all = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 1});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        job(all)
    };
    let success = |rule: Value| indexed(json!({"successPolicy": {"rules": [rule]}}));
    check("batch/v1", "Job", success(json!({"succeededIndexes": "0-2,4", "succeededCount": 2})), &[]);
    check(
        "batch/v1",
        "Job",
        success(json!({"succeededIndexes": "0-9"})),
        &[
            r#"spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-9": error parsing succeededIndexes: too large index: "9""#,
        ],
    );
    check(
        "batch/v1",
        "Job",
        success(json!({})),
        &[
            "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
        ],
    );
    check(
        "batch/v1",
        "Job",
        indexed(json!({"maxFailedIndexes": 6})),
        &[
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions",
        ],
    );
    check(
        "batch/v1",
        "Job",
        indexed(json!({"completions": 100_001, "backoffLimitPerIndex": 1, "parallelism": 10_001})),
        &[
            "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
        ],
    );
    check(
        "batch/v1",
        "Job",
        job(json!({"managedBy": "nobody"})),
        &[
            "spec.managedBy: Invalid value: \"nobody\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ],
    );
}

#[test]
fn a_suspended_job_may_be_told_where_to_go() {
    let suspended = |image: &str, selector: Value, labels: Value| {
        job(
            json!({"suspend": true, "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never",
            "nodeSelector": selector, "containers": [{"name": "c", "image": image}]}}}),
        )
    };
    let old = || suspended("i", json!({}), json!({"a": "b"}));
    check_update(
        "batch/v1",
        "Job",
        old(),
        suspended("i", json!({"x": "y"}), json!({"a": "b", "c": "d"})),
        &[],
    );
    let gvk = gvk("batch/v1", "Job");
    let errors = update(&gvk, &suspended("other", json!({}), json!({"a": "b"})), &old());
    assert!(errors.iter().any(|error| error.field == "spec.template"), "{errors}");
}

#[test]
fn job_statuses() {
    let times = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:05Z"});
    let with = |spec: Value, status: Value| {
        let mut object = job(spec);
        object["status"] = status;
        object
    };
    let all = |more: Value, conditions: &[&str]| {
        let mut status = times.clone();
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let told: Vec<_> = conditions.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        status["conditions"] = json!(told);
        status
    };
    #[track_caller]
    fn told(old: Value, new: Value, want: &[&str]) {
        check_status("batch/v1", "Job", old, new, want);
    }
    let plain = |status: Value| with(json!({}), status);
    let done = all(json!({"succeeded": 1}), &["SuccessCriteriaMet", "Complete"]);
    told(plain(json!({})), plain(done.clone()), &[]);
    told(
        plain(json!({})),
        plain(all(json!({"active": 1, "terminating": 1, "ready": 2}), &["Complete", "FailureTarget"])),
        &[
            "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
            "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
        ],
    );
    told(
        plain(json!({})),
        plain(
            json!({"conditions": [{"type": "Failed", "status": "True"}], "uncountedTerminatedPods": {"failed": ["a", "a", ""]}}),
        ),
        &[
            "status.uncountedTerminatedPods.failed[1]: Duplicate value: \"a\"",
            "status.uncountedTerminatedPods.failed[2]: Invalid value: \"\": must not be empty",
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            "status.startTime: Required value: startTime is required for finished job",
            "status.uncountedTerminatedPods: Invalid value: {\"failed\":[\"a\",\"a\",\"\"]}: uncountedTerminatedPods needs to be empty for finished job",
        ],
    );
    // What is told stays told.
    told(
        plain(done.clone()),
        plain(json!({"startTime": "2026-01-01T00:00:01Z"})),
        &[
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
            "status.conditions: Invalid value: cannot disable the terminal Job condition \"Complete\"",
            "status.conditions: Invalid value: cannot disable the terminal Job condition \"SuccessCriteriaMet\"",
            "status.startTime: Required value: startTime cannot be updated for unsuspended job",
            "status.completionTime: Invalid value: null: completionTime cannot be mutated",
        ],
    );
    let suspended = |status: Value| with(json!({"suspend": true}), status);
    told(suspended(json!({"startTime": "2026-01-01T00:00:01Z"})), suspended(json!({})), &[]);
    let indexed =
        json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5, "backoffLimitPerIndex": 1});
    told(
        with(indexed.clone(), json!({"succeeded": 3})),
        with(indexed.clone(), json!({"succeeded": 2, "completedIndexes": "0-2", "failedIndexes": "2,4"})),
        &[
            "status.failedIndexes: Invalid value: \"2,4\": failedIndexes and completedIndexes overlap at index: 2",
        ],
    );
    told(
        with(indexed.clone(), json!({})),
        with(indexed, json!({"completedIndexes": "7", "failedIndexes": "0"})),
        &[
            "status.completedIndexes: Invalid value: \"7\": error parsing completedIndexes: too large index: \"7\"",
        ],
    );
    told(
        plain(json!({})),
        plain(json!({"completedIndexes": "0", "failedIndexes": "0"})),
        &[
            "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed completion mode",
            "status.failedIndexes: Invalid value: \"0\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        ],
    );
}
