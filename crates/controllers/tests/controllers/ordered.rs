//! StatefulSet and DaemonSet.

use serde_json::{Value, json};

use crate::cluster::{Cluster, name, names};

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const SET: &str = "/apis/apps/v1/namespaces/default/statefulsets/db";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const CLAIM: &str = "/api/v1/namespaces/default/persistentvolumeclaims/data-db-0";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";
const DAEMONS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const DAEMON: &str = "/apis/apps/v1/namespaces/default/daemonsets/agent";

fn stateful(replicas: i32, more: Value) -> Value {
    let mut spec = json!({"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": "db"}, "spec": spec})
}

fn settled(replicas: i32) -> impl Fn(&Value) -> bool {
    move |set: &Value| {
        let status = &set["status"];
        status["observedGeneration"] == set["metadata"]["generation"]
            && status["availableReplicas"] == replicas
            && status["replicas"] == replicas
            && status["updatedReplicas"] == replicas
            && status["currentRevision"] == status["updateRevision"]
    }
}

fn of_revision(pod: &Value) -> &str {
    pod["metadata"]["labels"]["controller-revision-hash"].as_str().unwrap()
}

fn set_image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_comes_in_order_rolls_by_partition_and_back() {
    let cluster = Cluster::start().await;
    cluster.post(SETS, stateful(3, json!({}))).await;
    let told = cluster.until(SET, settled(3)).await;
    let first = told["status"]["currentRevision"].as_str().unwrap().to_owned();
    let pods = cluster.items(PODS).await;
    assert_eq!(names(&pods), ["db-0", "db-1", "db-2"]);
    for pod in &pods {
        let labels = &pod["metadata"]["labels"];
        assert_eq!(of_revision(pod), first, "pods tell what the status tells");
        assert_eq!(labels["statefulset.kubernetes.io/pod-name"], name(pod));
        assert_eq!(labels["apps.kubernetes.io/pod-index"], name(pod)[3..]);
        assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!(name(pod)), &json!("db")));
    }
    cluster.event("default", "db", "SuccessfulCreate", "create Pod db-0 in StatefulSet db successful").await;

    let partition = |at: i32| json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": at}}}});
    cluster.patch(SET, partition(2)).await;
    cluster.strategic(SET, set_image("two")).await;
    let told = cluster
        .until(SET, |set| set["status"]["updatedReplicas"] == 1 && set["status"]["readyReplicas"] == 3)
        .await;
    let second = told["status"]["updateRevision"].as_str().unwrap().to_owned();
    assert_eq!(
        (&told["status"]["currentRevision"], &told["status"]["currentReplicas"]),
        (&json!(first), &json!(2))
    );
    let of = |pods: &[Value], wanted: &str| {
        let pod = pods.iter().find(|pod| name(pod) == wanted);
        pod.map(|pod| of_revision(pod).to_owned()).unwrap_or_default()
    };
    // A pod below the partition comes back as it was.
    cluster.delete(&format!("{PODS}/db-0")).await;
    let uid = |pods: &[Value]| {
        pods.iter().find(|pod| name(pod) == "db-0").map(|pod| pod["metadata"]["uid"].clone())
    };
    let before = uid(&pods);
    let now =
        cluster.until_all(PODS, |pods| pods.len() == 3 && uid(pods).is_some() && uid(pods) != before).await;
    assert_eq!(
        [of(&now, "db-0"), of(&now, "db-1"), of(&now, "db-2")],
        [first.clone(), first.clone(), second.clone()]
    );

    cluster.patch(SET, partition(0)).await;
    cluster.until(SET, |set| set["status"]["currentRevision"] == json!(second) && settled(3)(set)).await;
    // Rolled back, it has the revision that it had.
    cluster.strategic(SET, set_image("one")).await;
    cluster.until(SET, |set| set["status"]["currentRevision"] == json!(first) && settled(3)(set)).await;
    let revisions = cluster.items(REVISIONS).await;
    assert_eq!(revisions.len(), 2);
    let number = |wanted: &str| {
        revisions.iter().find(|revision| name(revision) == wanted).unwrap()["revision"].clone()
    };
    assert_eq!((number(&first), number(&second)), (json!(3), json!(2)));

    cluster.patch(&format!("{SET}/scale"), json!({"spec": {"replicas": 1}})).await;
    cluster.until(SET, settled(1)).await;
    assert_eq!(names(&cluster.items(PODS).await), ["db-0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sick_pod_halts_what_is_ordered_and_failed_ones_come_again() {
    let cluster = Cluster::start().await;
    let mut set = stateful(3, json!({"ordinals": {"start": 5}}));
    set["spec"]["template"]["metadata"]["annotations"] = json!({"play": "nothing"});
    cluster.post(SETS, set).await;
    let ready = |value: &str| json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": value}]}});
    cluster.until_all(PODS, |pods| names(pods) == ["db-5"]).await;
    cluster.patch(&format!("{PODS}/db-5/status"), ready("True")).await;
    cluster.until_all(PODS, |pods| names(pods) == ["db-5", "db-6"]).await;
    cluster.patch(&format!("{PODS}/db-5/status"), ready("False")).await;
    cluster.patch(&format!("{PODS}/db-6/status"), ready("True")).await;
    // Nothing comes while one is sick; the status shows that this has been seen.
    cluster.until(SET, |set| set["status"]["readyReplicas"] == 1 && set["status"]["replicas"] == 2).await;
    assert_eq!(names(&cluster.items(PODS).await), ["db-5", "db-6"]);
    cluster.patch(&format!("{PODS}/db-5/status"), ready("True")).await;
    cluster.until_all(PODS, |pods| pods.len() == 3).await;
    cluster.patch(&format!("{PODS}/db-7/status"), ready("True")).await;

    let sick = cluster.get(&format!("{PODS}/db-6")).await;
    cluster.patch(&format!("{PODS}/db-6/status"), json!({"status": {"phase": "Failed"}})).await;
    let other = |pod: &Value| name(pod) == "db-6" && pod["metadata"]["uid"] != sick["metadata"]["uid"];
    cluster.until_all(PODS, |pods| pods.iter().any(other)).await;
    let told = "StatefulSet default/db is recreating failed Pod db-6";
    cluster.event("default", "db", "RecreatingFailedPod", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_a_stateful_set_stay_or_go_as_its_policy_says() {
    let cluster = Cluster::start().await;
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}, "storageClassName": "none"}}]);
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    let more = json!({"podManagementPolicy": "Parallel", "volumeClaimTemplates": claims,
        "persistentVolumeClaimRetentionPolicy": policy});
    cluster.post(SETS, stateful(3, more)).await;
    cluster.until(SET, settled(3)).await;
    let claims = cluster
        .until_all(CLAIMS, |claims| {
            claims.len() == 3
                && claims.iter().all(|claim| claim["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet")
        })
        .await;
    let mut claims = claims;
    claims.sort_by(|a, b| name(a).cmp(name(b)));
    assert_eq!(names(&claims), ["data-db-0", "data-db-1", "data-db-2"]);
    let message = "create Claim data-db-0 Pod db-0 in StatefulSet db success";
    cluster.event("default", "db", "SuccessfulCreate", message).await;
    // A pod that waits gets a claim again that somebody has taken away.
    let pending = json!({"status": {"phase": "Pending"}});
    cluster.delete(CLAIM).await;
    cluster.patch(CLAIM, json!({"metadata": {"finalizers": null}})).await;
    cluster.patch(&format!("{PODS}/db-0/status"), pending).await;
    let deleted = &claims[0]["metadata"]["uid"];
    cluster
        .until(CLAIM, |claim| {
            claim["metadata"]["uid"] != *deleted && claim["metadata"]["deletionTimestamp"].is_null()
        })
        .await;
    cluster.patch(&format!("{PODS}/db-0/status"), json!({"status": {"phase": "Running"}})).await;
    cluster.patch(&format!("{SET}/scale"), json!({"spec": {"replicas": 1}})).await;
    cluster.until_all(CLAIMS, |claims| names(claims) == ["data-db-0"]).await;
    cluster.delete(SET).await;
    cluster.until_all(CLAIMS, <[_]>::is_empty).await;
}

fn daemon(strategy: Value) -> Value {
    json!({"metadata": {"name": "agent", "annotations": {"kubernetes.io/change-cause": "because"}}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": strategy,
        "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}})
}

async fn nodes(cluster: &Cluster, count: usize) {
    for number in 0..count {
        let node =
            json!({"metadata": {"name": format!("n{number}"), "labels": {"number": number.to_string()}}});
        cluster.post("/api/v1/nodes", node).await;
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        cluster.patch(&format!("/api/v1/nodes/n{number}/status"), ready).await;
    }
}

fn daemons(count: i32) -> impl Fn(&Value) -> bool {
    move |set: &Value| {
        let status = &set["status"];
        status["observedGeneration"] == set["metadata"]["generation"]
            && ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"]
                .iter()
                .all(|of| status[of] == count)
            && status["updatedNumberScheduled"] == count
            && status["numberAvailable"] == count
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_run_where_they_fit_and_roll_and_roll_back() {
    let cluster = Cluster::start().await;
    nodes(&cluster, 3).await;
    cluster.post(DAEMONS, daemon(json!({"type": "RollingUpdate"}))).await;
    cluster.until(DAEMON, daemons(3)).await;
    let pods = cluster.items(PODS).await;
    let tolerations = pods[0]["spec"]["tolerations"].to_string();
    for key in
        ["not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"]
    {
        assert!(tolerations.contains(&format!("node.kubernetes.io/{key}")), "{tolerations}");
    }
    let revisions = cluster.items(REVISIONS).await;
    assert_eq!(revisions[0]["metadata"]["labels"]["controller-revision-hash"], of_revision(&pods[0]));
    assert_eq!(revisions[0]["metadata"]["annotations"]["kubernetes.io/change-cause"], "because");
    assert_eq!(pods[0]["metadata"]["labels"]["pod-template-generation"], "1");

    // A failed daemon is replaced.
    let failed = name(&pods[0]).to_owned();
    cluster.patch(&format!("{PODS}/{failed}/status"), json!({"status": {"phase": "Failed"}})).await;
    cluster
        .event(
            "default",
            "agent",
            "FailedDaemonPod",
            &format!("Found failed daemon pod default/{failed} on node"),
        )
        .await;
    cluster.gone(&format!("{PODS}/{failed}")).await;
    cluster.until(DAEMON, daemons(3)).await;

    // A broken update stops at the first node; the way back disturbs nobody else.
    let before = cluster.until_all(PODS, |pods| pods.len() == 3).await;
    let mut broken = set_image("broken");
    broken["spec"]["template"]["metadata"] = json!({"annotations": {"play": "pending"}});
    cluster.strategic(DAEMON, broken).await;
    cluster
        .until(DAEMON, |set| {
            set["status"]["updatedNumberScheduled"] == 1 && set["status"]["numberUnavailable"] == 1
        })
        .await;
    let mut back = set_image("one");
    back["spec"]["template"]["metadata"] = json!({"annotations": {"play": null}});
    cluster.strategic(DAEMON, back).await;
    cluster.until(DAEMON, daemons(3)).await;
    let after = cluster.until_all(PODS, |pods| pods.len() == 3).await;
    let kept =
        after.iter().filter(|pod| before.iter().any(|old| old["metadata"]["uid"] == pod["metadata"]["uid"]));
    assert_eq!(kept.count(), 2);

    // Placement follows nodes' labels and taints, and the selector.
    cluster.patch(DAEMON, json!({"spec": {"template": {"spec": {"nodeSelector": {"number": "1"}}}}})).await;
    cluster.until(DAEMON, daemons(1)).await;
    cluster.patch("/api/v1/nodes/n2", json!({"metadata": {"labels": {"number": "1"}}})).await;
    cluster.until(DAEMON, daemons(2)).await;
    cluster
        .patch("/api/v1/nodes/n2", json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}))
        .await;
    cluster.until(DAEMON, daemons(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_surge_starts_the_new_daemon_before_the_old_one_goes() {
    let cluster = Cluster::start().await;
    nodes(&cluster, 2).await;
    let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    cluster.post(DAEMONS, daemon(surge)).await;
    cluster.until(DAEMON, daemons(2)).await;
    let mut broken = set_image("broken");
    broken["spec"]["template"]["metadata"] = json!({"annotations": {"play": "pending"}});
    cluster.strategic(DAEMON, broken).await;
    cluster.until(DAEMON, |set| set["status"]["updatedNumberScheduled"] == 1).await;
    assert_eq!(cluster.items(PODS).await.len(), 3, "both old ones still serve");
    let mut good = set_image("two");
    good["spec"]["template"]["metadata"] = json!({"annotations": {"play": null}});
    cluster.strategic(DAEMON, good).await;
    cluster.until(DAEMON, daemons(2)).await;
    cluster.until_all(PODS, |pods| pods.len() == 2).await;
}
