//! Deployment, ReplicaSet, ReplicationController.

use serde_json::{Value, json};

use crate::cluster::{Cluster, condition, name};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn template(app: &str, image: &str, play: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}, "annotations": {"play": play}},
        "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(name: &str, replicas: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": template(name, "one", "run")}})
}

fn observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn rolled_out(replicas: i32) -> impl Fn(&Value) -> bool {
    move |web: &Value| {
        let status = &web["status"];
        observed(web)
            && ["availableReplicas", "updatedReplicas", "replicas", "readyReplicas"]
                .iter()
                .all(|count| status[count] == replicas)
            && condition(web, "Progressing")["reason"] == "NewReplicaSetAvailable"
    }
}

fn image(set: &Value) -> &str {
    set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap()
}

fn revision(object: &Value) -> &str {
    object["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().unwrap_or_default()
}

fn set_image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_and_remembers() {
    let cluster = Cluster::start().await;
    cluster.post(DEPLOYMENTS, deployment("web", 3)).await;
    let told = cluster.until(WEB, rolled_out(3)).await;
    assert_eq!(told["metadata"]["generation"], 1, "telling the revision is no new generation");
    assert_eq!(condition(&told, "Available")["reason"], "MinimumReplicasAvailable");
    let first = cluster.items(SETS).await.remove(0);
    let (name_of_first, hash) = (name(&first), &first["metadata"]["labels"]["pod-template-hash"]);
    assert_eq!(name_of_first, format!("web-{}", hash.as_str().unwrap()));
    assert_eq!(&first["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    assert_eq!(first["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"], "3");
    assert_eq!(first["metadata"]["annotations"]["deployment.kubernetes.io/max-replicas"], "4");
    let message = format!("Scaled up replica set {name_of_first} from 0 to 3");
    cluster.event("default", "web", "ScalingReplicaSet", &message).await;

    for (step, wanted) in ["two", "three"].iter().enumerate() {
        cluster.strategic(WEB, set_image(wanted)).await;
        let told = cluster.until(WEB, |web| image(web) == *wanted && rolled_out(3)(web)).await;
        assert_eq!(revision(&told), (step + 2).to_string());
    }
    // Undo: the former template becomes a new revision of the set that had it.
    cluster.strategic(WEB, set_image("one")).await;
    let told = cluster.until(WEB, |web| revision(web) == "4" && rolled_out(3)(web)).await;
    assert_eq!(image(&told), "one");
    let again = cluster.get(&format!("{SETS}/{name_of_first}")).await;
    assert_eq!((revision(&again), again["metadata"]["uid"] == first["metadata"]["uid"]), ("4", true));
    assert_eq!(again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(cluster.items(SETS).await.len(), 3);

    // A shorter history forgets the oldest.
    cluster.patch(WEB, json!({"spec": {"revisionHistoryLimit": 0}})).await;
    cluster.until_all(SETS, |sets| sets.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_rollout_keeps_its_limits_is_scaled_by_shares_and_times_out() {
    let cluster = Cluster::start().await;
    let mut web = deployment("web", 10);
    web["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    web["spec"]["progressDeadlineSeconds"] = json!(2);
    cluster.post(DEPLOYMENTS, web).await;
    cluster.until(WEB, rolled_out(10)).await;
    let mut broken = set_image("broken");
    broken["spec"]["template"]["metadata"] = json!({"annotations": {"play": "pending"}});
    cluster.strategic(WEB, broken).await;
    let sizes = |sets: &[Value]| {
        let mut sizes: Vec<_> = sets
            .iter()
            .map(|set| (image(set).to_owned(), set["spec"]["replicas"].as_i64().unwrap()))
            .collect();
        sizes.sort();
        sizes
    };
    let expected = [("broken".to_owned(), 5), ("one".to_owned(), 8)];
    cluster.until_all(SETS, |sets| sizes(sets) == expected).await;
    let told =
        cluster.until(WEB, |web| condition(web, "Progressing")["reason"] == "ProgressDeadlineExceeded").await;
    let progressing = condition(&told, "Progressing");
    assert_eq!(progressing["status"], "False");
    assert!(progressing["message"].as_str().unwrap().ends_with("has timed out progressing."));
    assert_eq!(
        (&told["status"]["unavailableReplicas"], &told["status"]["updatedReplicas"]),
        (&json!(5), &json!(5))
    );
    assert_eq!(condition(&told, "Available")["status"], "True");

    // Both sets grow by their shares.
    cluster.patch(&format!("{WEB}/scale"), json!({"spec": {"replicas": 30}})).await;
    let expected = [("broken".to_owned(), 13), ("one".to_owned(), 20)];
    cluster.until_all(SETS, |sets| sizes(sets) == expected).await;
    // Repaired, it goes on.
    let mut repaired = set_image("repaired");
    repaired["spec"]["template"]["metadata"] = json!({"annotations": {"play": "run"}});
    cluster.strategic(WEB, repaired).await;
    cluster.until(WEB, |web| image(web) == "repaired" && rolled_out(30)(web)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pausing_recreating_orphaning_and_adopting() {
    let cluster = Cluster::start().await;
    let mut web = deployment("web", 2);
    web["spec"]["paused"] = json!(true);
    cluster.post(DEPLOYMENTS, web).await;
    cluster
        .until(WEB, |web| condition(web, "Progressing")["reason"] == "DeploymentPaused" && observed(web))
        .await;
    assert!(cluster.items(SETS).await.is_empty(), "what is paused begins nothing");
    cluster.patch(WEB, json!({"spec": {"paused": false}})).await;
    cluster.until(WEB, rolled_out(2)).await;

    // Recreate: no new pod before the last old one has gone.
    cluster.patch(WEB, json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}})).await;
    cluster.strategic(WEB, set_image("two")).await;
    cluster.until(WEB, |web| image(web) == "two" && rolled_out(2)(web)).await;
    let pods = cluster.until_all(PODS, |pods| pods.len() == 2).await;
    assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "two"));

    // Orphaned sets and pods stay, and belong to the next Deployment that picks them.
    cluster.delete_with(WEB, json!({"propagationPolicy": "Orphan"})).await;
    cluster.gone(WEB).await;
    let orphans = cluster
        .until_all(SETS, |sets| sets.iter().all(|set| set["metadata"]["ownerReferences"].is_null()))
        .await;
    assert_eq!(orphans.len(), 2);
    let mut again = deployment("web", 2);
    again["spec"]["template"] = template("web", "two", "run");
    cluster.post(DEPLOYMENTS, again).await;
    let told = cluster.until(WEB, rolled_out(2)).await;
    let sets = cluster.items(SETS).await;
    assert_eq!(sets.len(), 2, "adopted, not made anew");
    let uid = &told["metadata"]["uid"];
    assert!(sets.iter().all(|set| set["metadata"]["ownerReferences"][0]["uid"] == *uid));
    assert_eq!(names_of(&cluster.items(PODS).await), names_of(&pods));
    // Foreground: the Deployment goes last.
    cluster.delete_with(WEB, json!({"propagationPolicy": "Foreground"})).await;
    cluster.gone(WEB).await;
    assert!(cluster.items(SETS).await.is_empty() && cluster.items(PODS).await.is_empty());
}

fn names_of(objects: &[Value]) -> Vec<String> {
    crate::cluster::names(objects).into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_sets_adopt_release_and_give_up_the_cheapest() {
    let cluster = Cluster::start().await;
    let pod = json!({"metadata": {"name": "loner", "labels": {"app": "rs"}},
        "spec": {"containers": [{"name": "c", "image": "one"}]}});
    cluster.post(PODS, pod).await;
    let set = json!({"metadata": {"name": "rs"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "rs"}},
        "template": template("rs", "one", "run")}});
    let set = cluster.post(SETS, set).await;
    let path = format!("{SETS}/rs");
    let ready = |count: i32| {
        move |set: &Value| {
            set["status"]["availableReplicas"] == count && set["status"]["replicas"] == count && observed(set)
        }
    };
    cluster.until(&path, ready(3)).await;
    let loner = cluster.get(&format!("{PODS}/loner")).await;
    assert_eq!(loner["metadata"]["ownerReferences"][0]["uid"], set["metadata"]["uid"]);
    assert_eq!(loner["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], true);
    cluster.event("default", "rs", "SuccessfulCreate", "Created pod: rs-").await;

    // A pod that is relabelled is let go, and replaced. Whoever has seen that has seen the cost of another, too.
    let dear = cluster.items(PODS).await.into_iter().find(|pod| name(pod) != "loner").unwrap();
    let kept = name(&dear).to_owned();
    let cost = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "100"}}});
    cluster.patch(&format!("{PODS}/{kept}"), cost).await;
    cluster.patch(&format!("{PODS}/loner"), json!({"metadata": {"labels": {"app": "other"}}})).await;
    let owned = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"];
    let pods = cluster
        .until_all(PODS, |pods| pods.len() == 4 && pods.iter().filter(|pod| owned(pod)).count() == 3)
        .await;
    cluster.until(&path, ready(3)).await;
    assert!(pods.iter().any(|pod| owned(pod) && name(pod) == kept));
    cluster.patch(&format!("{path}/scale"), json!({"spec": {"replicas": 1}})).await;
    let left = cluster.until_all(&format!("{PODS}?labelSelector=app%3Drs"), |pods| pods.len() == 1).await;
    assert_eq!(name(&left[0]), kept);
    cluster.event("default", "rs", "SuccessfulDelete", "Deleted pod: rs-").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_refuses_pods_is_told_and_its_end_noticed() {
    let cluster = Cluster::start().await;
    let quota = "/api/v1/namespaces/default/resourcequotas";
    cluster.post(quota, json!({"metadata": {"name": "small"}, "spec": {"hard": {"pods": "2"}}})).await;
    cluster.until(&format!("{quota}/small"), |quota| quota["status"]["used"]["pods"] == "0").await;
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    let rc = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 3, "selector": {"app": "rc"},
        "template": template("rc", "one", "run")}});
    cluster.post(controllers, rc).await;
    let path = format!("{controllers}/rc");
    let told = cluster.until(&path, |rc| condition(rc, "ReplicaFailure")["reason"] == "FailedCreate").await;
    let failure = condition(&told, "ReplicaFailure");
    assert_eq!(failure["status"], "True");
    assert!(failure["message"].as_str().unwrap().contains("exceeded quota: small"), "{failure}");
    cluster.event("default", "rc", "FailedCreate", "exceeded quota: small").await;
    cluster.patch(&path, json!({"spec": {"replicas": 2}})).await;
    cluster
        .until(&path, |rc| condition(rc, "ReplicaFailure").is_null() && rc["status"]["readyReplicas"] == 2)
        .await;
    cluster.until(&format!("{quota}/small"), |quota| quota["status"]["used"]["pods"] == "2").await;
}
