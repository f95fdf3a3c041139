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
