//! Job, CronJob, and what becomes of them after their end.

use serde_json::{Value, json};

use crate::cluster::{Cluster, condition, name, names};

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const JOB: &str = "/apis/batch/v1/namespaces/default/jobs/work";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CRONS: &str = "/apis/batch/v1/namespaces/default/cronjobs";

/// `play` says how each pod ends.
fn job(play: &str, more: Value) -> Value {
    let mut spec = json!({"template": {"metadata": {"annotations": {"play": play}}, "spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "one"}]}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": "work"}, "spec": spec})
}

fn ended(type_: &str) -> impl Fn(&Value) -> bool {
    move |job: &Value| condition(job, type_)["status"] == "True"
}

fn reason<'a>(job: &'a Value, type_: &str) -> &'a str {
    condition(job, type_)["reason"].as_str().unwrap_or_default()
}

async fn finish(cluster: &Cluster, pod: &Value, play: &str) {
    let typed = serde_json::from_value(pod.clone()).unwrap();
    let status = crate::node::status(&typed, play, 1);
    cluster.patch(&format!("{PODS}/{}/status", name(pod)), json!({"status": status})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_completion_and_counts_each_pod_once() {
    let cluster = Cluster::start().await;
    cluster.post(JOBS, job("succeed", json!({"completions": 5, "parallelism": 2}))).await;
    let told = cluster.until(JOB, ended("Complete")).await;
    let status = &told["status"];
    assert_eq!(status["succeeded"], 5);
    assert_eq!((&status["active"], &status["failed"]), (&Value::Null, &Value::Null));
    assert_eq!((&status["ready"], &status["terminating"]), (&json!(0), &json!(0)));
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    assert!(status["completionTime"].is_string() && status["startTime"].is_string());
    assert_eq!(reason(&told, "Complete"), "CompletionsReached");
    assert_eq!(reason(&told, "SuccessCriteriaMet"), "CompletionsReached");
    let pods = cluster.items(PODS).await;
    assert_eq!(pods.len(), 5);
    assert!(pods.iter().all(|pod| pod["metadata"]["finalizers"].is_null()));
    let labels = &pods[0]["metadata"]["labels"];
    for label in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
        assert_eq!(labels[label], told["metadata"]["uid"]);
    }
    assert_eq!(
        (&labels["batch.kubernetes.io/job-name"], &labels["job-name"]),
        (&json!("work"), &json!("work"))
    );
    cluster.event("default", "work", "SuccessfulCreate", "Created pod: work-").await;
    cluster.event("default", "work", "Completed", "Job completed").await;
    // Pods go with their Job.
    cluster.delete_with(JOB, json!({"propagationPolicy": "Background"})).await;
    cluster.until_all(PODS, <[_]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexed_jobs_succeed_fail_by_index_and_by_policy() {
    let cluster = Cluster::start().await;
    let indexed = json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed"});
    cluster.post(JOBS, job("succeed", indexed)).await;
    let told = cluster.until(JOB, ended("Complete")).await;
    assert_eq!(
        (&told["status"]["completedIndexes"], &told["status"]["succeeded"]),
        (&json!("0-3"), &json!(4))
    );
    let pods = cluster.items(PODS).await;
    let mut indexes: Vec<_> = pods
        .iter()
        .map(|pod| {
            let index =
                pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str().unwrap();
            assert_eq!(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"], index);
            assert_eq!(pod["spec"]["hostname"], format!("work-{index}"));
            assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
            index.to_owned()
        })
        .collect();
    indexes.sort();
    assert_eq!(indexes, ["0", "1", "2", "3"]);
    cluster.delete_with(JOB, json!({"propagationPolicy": "Foreground"})).await;
    cluster.gone(JOB).await;

    // Success as soon as the rule is met; those that still run are stopped.
    let policy = json!({"rules": [{"succeededIndexes": "1", "succeededCount": 1}]});
    let early =
        json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "successPolicy": policy});
    cluster.post(JOBS, job("run", early)).await;
    let pods = cluster
        .until_all(PODS, |pods| pods.len() == 3 && pods.iter().all(|pod| pod["status"]["phase"] == "Running"))
        .await;
    let index = |pod: &Value| pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1";
    finish(&cluster, pods.iter().find(|pod| index(pod)).unwrap(), "succeed").await;
    let told = cluster.until(JOB, ended("Complete")).await;
    assert_eq!(
        (reason(&told, "SuccessCriteriaMet"), reason(&told, "Complete")),
        ("SuccessPolicy", "SuccessPolicy")
    );
    assert_eq!(condition(&told, "Complete")["message"], "Matched rules at index 0");
    assert_eq!((&told["status"]["completedIndexes"], &told["status"]["active"]), (&json!("1"), &Value::Null));
    cluster.delete_with(JOB, json!({"propagationPolicy": "Foreground"})).await;
    cluster.gone(JOB).await;

    // Each index may fail by itself; all are tried before the Job has failed.
    let each =
        json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 0});
    cluster.post(JOBS, job("run", each)).await;
    let pods = cluster
        .until_all(PODS, |pods| pods.len() == 2 && pods.iter().all(|pod| pod["status"]["phase"] == "Running"))
        .await;
    for pod in &pods {
        finish(&cluster, pod, if index(pod) { "succeed" } else { "exit:3" }).await;
    }
    let told = cluster.until(JOB, ended("Failed")).await;
    assert_eq!((reason(&told, "FailureTarget"), reason(&told, "Failed")), ("FailedIndexes", "FailedIndexes"));
    let status = &told["status"];
    assert_eq!((&status["failedIndexes"], &status["completedIndexes"]), (&json!("0"), &json!("1")));
    assert_eq!((&status["failed"], &status["succeeded"]), (&json!(1), &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_fail_by_limit_deadline_and_policy() {
    let cluster = Cluster::start().await;
    cluster.post(JOBS, job("fail", json!({"backoffLimit": 0, "parallelism": 1}))).await;
    let told = cluster.until(JOB, ended("Failed")).await;
    assert_eq!(reason(&told, "Failed"), "BackoffLimitExceeded");
    assert_eq!(condition(&told, "Failed")["message"], "Job has reached the specified backoff limit");
    assert_eq!(told["status"]["failed"], 1);
    cluster.event("default", "work", "BackoffLimitExceeded", "Job has reached").await;
    cluster.delete_with(JOB, json!({"propagationPolicy": "Foreground"})).await;
    cluster.gone(JOB).await;

    cluster
        .post(JOBS, job("run", json!({"activeDeadlineSeconds": 1, "parallelism": 2, "completions": 2})))
        .await;
    let told = cluster.until(JOB, ended("Failed")).await;
    assert_eq!(reason(&told, "Failed"), "DeadlineExceeded");
    assert_eq!((&told["status"]["failed"], &told["status"]["active"]), (&json!(2), &Value::Null));
    cluster.delete_with(JOB, json!({"propagationPolicy": "Foreground"})).await;
    cluster.gone(JOB).await;

    let rules = json!({"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]});
    cluster.post(JOBS, job("run", json!({"backoffLimit": 6, "podFailurePolicy": rules}))).await;
    let running = |pods: &[Value]| pods.len() == 1 && pods[0]["status"]["phase"] == "Running";
    let pods = cluster.until_all(PODS, running).await;
    // A disruption is none of the Job's failures.
    let path = format!("{PODS}/{}/status", name(&pods[0]));
    let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"});
    cluster.strategic(&path, json!({"status": {"conditions": [target]}})).await;
    cluster.patch(&path, json!({"status": {"phase": "Failed"}})).await;
    let first = pods[0]["metadata"]["uid"].clone();
    let pods = cluster
        .until_all(PODS, |pods| {
            pods.iter().any(|pod| pod["metadata"]["uid"] != first && pod["status"]["phase"] == "Running")
        })
        .await;
    let second = pods.iter().find(|pod| pod["metadata"]["uid"] != first).unwrap();
    finish(&cluster, second, "exit:42").await;
    let told = cluster.until(JOB, ended("Failed")).await;
    assert_eq!(reason(&told, "Failed"), "PodFailurePolicy");
    let message = format!(
        "Container c for pod default/{} failed with exit code 42 matching FailJob rule at index 1",
        name(second)
    );
    assert_eq!(
        (&condition(&told, "Failed")["message"], &told["status"]["failed"]),
        (&json!(message), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspending_managing_elsewhere_and_replacing_late() {
    let cluster = Cluster::start().await;
    cluster.post(JOBS, job("run", json!({"suspend": true, "parallelism": 2, "completions": 2}))).await;
    let told = cluster.until(JOB, ended("Suspended")).await;
    assert_eq!((reason(&told, "Suspended"), &told["status"]["startTime"]), ("JobSuspended", &Value::Null));
    assert!(cluster.items(PODS).await.is_empty());
    cluster.patch(JOB, json!({"spec": {"suspend": false}})).await;
    let told = cluster.until(JOB, |job| job["status"]["active"] == 2 && job["status"]["ready"] == 2).await;
    assert_eq!(
        (reason(&told, "Suspended"), &condition(&told, "Suspended")["status"]),
        ("JobResumed", &json!("False"))
    );
    cluster.patch(JOB, json!({"spec": {"suspend": true}})).await;
    let told = cluster.until(JOB, |job| ended("Suspended")(job) && job["status"]["active"].is_null()).await;
    assert_eq!(told["status"]["failed"], Value::Null, "what is stopped by suspending has not failed");
    cluster.until_all(PODS, <[_]>::is_empty).await;
    cluster.event("default", "work", "Suspended", "Job suspended").await;
    cluster.event("default", "work", "Resumed", "Job resumed").await;
    cluster.delete_with(JOB, json!({"propagationPolicy": "Foreground"})).await;
    cluster.gone(JOB).await;

    // A pod that is going is replaced only when it has gone, where the Job says so.
    let mut late = job("nothing", json!({"podReplacementPolicy": "Failed"}));
    late["spec"]["template"]["spec"]["nodeName"] = json!("node-0");
    cluster.post(JOBS, late).await;
    let pods = cluster.until_all(PODS, |pods| pods.len() == 1).await;
    let path = format!("{PODS}/{}", name(&pods[0]));
    cluster.patch(&format!("{path}/status"), json!({"status": {"phase": "Running"}})).await;
    cluster.delete(&path).await;
    cluster.until(JOB, |job| job["status"]["terminating"] == 1 && job["status"]["active"].is_null()).await;
    assert_eq!(cluster.items(PODS).await.len(), 1);
    finish(&cluster, &pods[0], "fail").await;
    cluster.until(JOB, |job| job["status"]["failed"] == 1 && job["status"]["terminating"] == 0).await;
    cluster.delete_with(JOB, json!({"propagationPolicy": "Background"})).await;
    cluster.gone(JOB).await;

    let elsewhere = json!({"metadata": {"name": "managed"}, "spec": {"managedBy": "example.com/queue",
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "one"}]}}}});
    cluster.post(JOBS, elsewhere).await;
    cluster.post(JOBS, job("succeed", json!({"ttlSecondsAfterFinished": 0}))).await;
    // The one made later has run and is gone; the other was not touched meanwhile.
    cluster.event("default", "work", "Completed", "Job completed").await;
    cluster.gone(JOB).await;
    let managed = cluster.get(&format!("{JOBS}/managed")).await;
    assert_eq!(managed["status"], json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cron_jobs_run_by_the_clock() {
    let cluster = Cluster::start().await;
    let cron = |name: &str, schedule: &str, policy: &str, play: &str| {
        json!({"metadata": {"name": name}, "spec": {"schedule": schedule, "concurrencyPolicy": policy,
            "jobTemplate": {"metadata": {"labels": {"cron": name}}, "spec": job(play, json!({}))["spec"]}}})
    };
    cluster.post(CRONS, cron("forbid", "@every 1s", "Forbid", "run")).await;
    cluster.post(CRONS, cron("replace", "@every 1s", "Replace", "run")).await;
    let mut short = cron("short", "@every 1s", "Allow", "succeed");
    short["spec"]["successfulJobsHistoryLimit"] = json!(0);
    cluster.post(CRONS, short).await;
    let mut suspended = cron("suspended", "@every 1s", "Allow", "run");
    suspended["spec"]["suspend"] = json!(true);
    cluster.post(CRONS, suspended).await;

    let of = |cron: &str| format!("{JOBS}?labelSelector=cron%3D{cron}");
    let told = cluster.until(&format!("{CRONS}/forbid"), |cron| cron["status"]["active"].is_array()).await;
    assert_eq!(told["status"]["active"].as_array().unwrap().len(), 1);
    let first = cluster.items(&of("forbid")).await.remove(0);
    assert_eq!(first["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    assert!(first["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].is_string());
    cluster
        .event("default", "forbid", "JobAlreadyActive", "Not starting job because prior execution is running")
        .await;
    assert_eq!(names(&cluster.items(&of("forbid")).await), [name(&first)]);
    cluster.event("default", "replace", "SuccessfulDelete", "Deleted job replace-").await;
    cluster.event("default", "short", "SawCompletedJob", "condition: Complete").await;
    cluster.event("default", "short", "SuccessfulDelete", "Deleted job short-").await;
    cluster.until(&format!("{CRONS}/short"), |cron| cron["status"]["lastSuccessfulTime"].is_string()).await;
    assert!(cluster.items(&of("suspended")).await.is_empty());
    // An active Job that somebody deletes is missed.
    cluster
        .delete_with(&format!("{JOBS}/{}", name(&first)), json!({"propagationPolicy": "Background"}))
        .await;
    cluster.event("default", "forbid", "MissingJob", name(&first)).await;
    // A Job that somebody makes in its name is told of, and none of its own.
    let mut by_hand = job("run", json!({}));
    let owner = cluster.get(&format!("{CRONS}/suspended")).await;
    by_hand["metadata"] = json!({"name": "by-hand", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob",
        "name": "suspended", "uid": owner["metadata"]["uid"], "controller": true}]});
    cluster.post(JOBS, by_hand).await;
    cluster.event("default", "suspended", "UnexpectedJob", "by-hand").await;
    cluster.patch(&format!("{CRONS}/suspended"), json!({"spec": {"suspend": false}})).await;
    let told = cluster.until(&format!("{CRONS}/suspended"), |cron| cron["status"]["active"].is_array()).await;
    assert_ne!(told["status"]["active"][0]["name"], "by-hand");
    // Nor is one missed that was replaced.
    let events =
        cluster.items("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dreplace").await;
    assert!(events.iter().all(|event| event["reason"] != "MissingJob"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_adopt_their_pods_again_and_let_others_go() {
    let cluster = Cluster::start().await;
    let job = cluster.post(JOBS, job("run", json!({"parallelism": 2, "completions": 2}))).await;
    cluster.until(JOB, |job| job["status"]["ready"] == 2).await;
    let pods = cluster.items(PODS).await;
    let (first, second) = (format!("{PODS}/{}", name(&pods[0])), format!("{PODS}/{}", name(&pods[1])));
    let owner = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"].clone();
    cluster.patch(&first, json!({"metadata": {"ownerReferences": null}})).await;
    let tracked = json!(["batch.kubernetes.io/job-tracking"]);
    cluster
        .until(&first, |pod| owner(pod) == job["metadata"]["uid"] && pod["metadata"]["finalizers"] == tracked)
        .await;
    // One that is no longer picked is let go, with nothing that would hold it.
    cluster.patch(&second, json!({"metadata": {"labels": null}})).await;
    cluster.until(&second, |pod| owner(pod).is_null() && pod["metadata"]["finalizers"].is_null()).await;
    cluster.delete(&second).await;
    cluster.gone(&second).await;
    cluster.until(JOB, |job| job["status"]["active"] == 2).await;
}
