use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::outcome::{self, Outcome};
use super::pods::wanted;
use super::track::{FINALIZER, track};

fn job(spec: Value, status: Value) -> (Job, JobSpec) {
    let mut spec = spec;
    spec["template"] = json!({"metadata": {"labels": {"job": "j"}}, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}});
    let job: Job = serde_json::from_value(
        json!({"metadata": {"name": "j", "namespace": "ns", "uid": "j"}, "spec": spec, "status": status}),
    )
    .unwrap();
    let spec = job.spec.clone().unwrap();
    (job, spec)
}

fn pod(name: &str, phase: &str, held: bool) -> Arc<Pod> {
    let finalizers = if held { json!([FINALIZER]) } else { json!([]) };
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "finalizers": finalizers}, "status": {"phase": phase}})).unwrap())
}

fn indexed(name: &str, phase: &str, index: i32, failures: i32) -> Arc<Pod> {
    let mut pod = (*pod(name, phase, true)).clone();
    pod.metadata.annotations = Some(
        [
            (super::track::INDEX.into(), index.to_string()),
            (super::track::INDEX_FAILURES.into(), failures.to_string()),
        ]
        .into(),
    );
    Arc::new(pod)
}

#[test]
fn a_pod_is_counted_once_whatever_step_is_repeated() {
    let (mut job, spec) = job(json!({"completions": 2, "parallelism": 2}), json!({}));
    let held = [pod("a", "Succeeded", true), pod("b", "Failed", true)];
    for _ in 0..3 {
        let tracked = track(&job, &spec, &held, false);
        assert_eq!((tracked.succeeded, tracked.failed), (0, 0), "noted only");
        assert_eq!((tracked.total_succeeded, tracked.total_failed, tracked.counted.len()), (1, 1, 2));
        tracked.tell(&spec, job.status.get_or_insert_default());
    }
    let released = [pod("a", "Succeeded", false), pod("b", "Failed", false)];
    for _ in 0..3 {
        let tracked = track(&job, &spec, &released, false);
        assert_eq!((tracked.succeeded, tracked.failed), (1, 1));
        assert!(tracked.is_settled());
        tracked.tell(&spec, job.status.get_or_insert_default());
    }
    let tracked = track(&job, &spec, &[], false);
    assert_eq!((tracked.succeeded, tracked.failed), (1, 1), "deleted pods stay counted");
}

#[test]
fn the_number_of_pods_follows_parallelism_and_completions() {
    let check = |spec: Value, status: Value, active: usize, expected: (usize, usize)| {
        let (job, spec) = job(spec, status);
        let pods: Vec<_> = (0..active).map(|n| pod(&format!("p{n}"), "Running", true)).collect();
        let wanted = wanted(&job, &spec, &track(&job, &spec, &pods, false), &pods, true, Timestamp::now());
        assert_eq!((wanted.create.len(), wanted.delete.len()), expected, "{spec:?}");
    };
    check(json!({"completions": 5, "parallelism": 2}), json!({}), 0, (2, 0));
    check(json!({"completions": 5, "parallelism": 2}), json!({"succeeded": 4}), 0, (1, 0));
    check(json!({"completions": 5, "parallelism": 2}), json!({"succeeded": 4}), 1, (0, 0));
    check(json!({"parallelism": 3}), json!({}), 1, (2, 0));
    check(json!({"parallelism": 3}), json!({"succeeded": 1}), 1, (0, 0));
    check(json!({"completions": 5, "parallelism": 1}), json!({}), 3, (0, 2));
    check(json!({"completions": 5, "parallelism": 2, "suspend": true}), json!({}), 2, (0, 2));
}

#[test]
fn indexed_jobs_fill_the_first_free_indexes() {
    let (job, spec) = job(
        json!({"completions": 6, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1}),
        json!({"completedIndexes": "0", "failedIndexes": "1"}),
    );
    let pods = [indexed("a", "Running", 2, 0), indexed("b", "Failed", 3, 0)];
    let tracked = track(&job, &spec, &pods, false);
    let wanted = wanted(&job, &spec, &tracked, &pods, true, Timestamp::now());
    let made: Vec<_> = wanted
        .create
        .iter()
        .map(|pod| (super::track::index_of(pod).unwrap(), super::track::index_failures(pod)))
        .collect();
    assert_eq!(made, [(3, 1), (4, 0)]);
    let pod = &wanted.create[0];
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("j-3-"));
    assert_eq!(pod.spec.as_ref().unwrap().hostname.as_deref(), Some("j-3"));
    assert_eq!(pod.metadata.finalizers.as_deref(), Some(&[FINALIZER.to_owned()][..]));
    let failed = track(&job, &spec, &[indexed("b", "Failed", 3, 1)], false);
    assert_eq!(failed.failed_indexes.unwrap().to_string(), "1,3");
}

#[test]
fn a_job_ends_for_a_reason() {
    let check = |spec: Value, status: Value, pods: &[&Arc<Pod>], expected: Option<(bool, &str)>| {
        let (job, spec) = job(spec, status);
        let pods: Vec<_> = pods.iter().map(|pod| (*pod).clone()).collect();
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let found = outcome::outcome(&job, &spec, &track(&job, &spec, &pods, false), now);
        let found = found.as_ref().map(|Outcome { success, reason, .. }| (*success, reason.as_str()));
        assert_eq!(found, expected, "{spec:?}");
    };
    let (done, running, failed) =
        (pod("a", "Succeeded", true), pod("b", "Running", true), pod("c", "Failed", true));
    check(json!({"completions": 1}), json!({}), &[], None);
    check(json!({"completions": 1}), json!({}), &[&done], Some((true, "CompletionsReached")));
    check(json!({"completions": 2}), json!({"succeeded": 1}), &[&running], None);
    check(json!({"parallelism": 2}), json!({}), &[&done, &running], None);
    check(json!({"parallelism": 2}), json!({}), &[&done], Some((true, "CompletionsReached")));
    check(json!({"completions": 1, "backoffLimit": 1}), json!({}), &[&failed], None);
    check(
        json!({"completions": 1, "backoffLimit": 1}),
        json!({"failed": 1}),
        &[&failed],
        Some((false, "BackoffLimitExceeded")),
    );
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    check(
        json!({"completions": 1, "activeDeadlineSeconds": 3600}),
        started.clone(),
        &[&running],
        Some((false, "DeadlineExceeded")),
    );
    check(json!({"completions": 1, "activeDeadlineSeconds": 3601}), started.clone(), &[&running], None);
    check(json!({"completions": 1, "activeDeadlineSeconds": 1, "suspend": true}), started, &[], None);
    let announced = json!({"conditions": [{"type": "FailureTarget", "status": "True", "reason": "Why"}]});
    check(json!({"completions": 1}), announced, &[&done], Some((false, "Why")));
    let per_index = |more: Value| {
        let mut spec = json!({"completions": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 99});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    check(
        per_index(json!({})),
        json!({"completedIndexes": "1"}),
        &[&indexed("x", "Failed", 0, 0)],
        Some((false, "FailedIndexes")),
    );
    check(
        per_index(json!({"maxFailedIndexes": 0})),
        json!({}),
        &[&indexed("x", "Failed", 0, 0)],
        Some((false, "MaxFailedIndexesExceeded")),
    );
    check(
        per_index(json!({"successPolicy": {"rules": [{"succeededIndexes": "1"}]}})),
        json!({}),
        &[&indexed("x", "Succeeded", 1, 0)],
        Some((true, "SuccessPolicy")),
    );
}

#[test]
fn the_end_is_announced_before_it_is_told() {
    let mut status = Default::default();
    let ends = Outcome { success: true, reason: "CompletionsReached".into(), message: "m".into() };
    let now = crate::kit::meta::now();
    outcome::tell(&ends, false, &mut status, &now);
    let types = |status: &k8s_openapi::api::batch::v1::JobStatus| {
        status.conditions.iter().flatten().map(|c| c.type_.clone()).collect::<Vec<_>>()
    };
    assert_eq!((types(&status), status.completion_time.is_none()), (vec!["SuccessCriteriaMet".into()], true));
    outcome::tell(&ends, true, &mut status, &now);
    assert_eq!(
        (types(&status), status.completion_time.is_some()),
        (vec!["SuccessCriteriaMet".into(), "Complete".into()], true)
    );
}
