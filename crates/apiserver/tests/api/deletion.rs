//! Deletion: at once, with grace, finalizers, propagation, preconditions, collections, namespaces.

use serde_json::{Value, json};

use crate::fixture::*;

#[tokio::test]
async fn a_delete_answers_with_what_upstream_answers() {
    let server = Server::start().await;
    let created = server.post(CONFIG_MAPS, &config_map("cm")).await.ok();
    let path = format!("{CONFIG_MAPS}/cm");
    let status = server.delete(&path, "").await.ok();
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(status["details"]["uid"], created["metadata"]["uid"]);
    assert_eq!(server.delete(&path, "").await.failure().0, 404);
}

#[tokio::test]
async fn preconditions_are_checked() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("cm")).await.ok();
    let path = format!("{CONFIG_MAPS}/cm");
    for precondition in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": precondition});
        let (code, reason, _) = server.delete(&path, &body.to_string()).await.failure();
        assert_eq!((code, reason.as_str()), (409, "Conflict"));
    }
    server.get(&path).await.ok();
}

#[tokio::test]
async fn finalizers_keep_an_object_until_they_are_gone() {
    let server = Server::start().await;
    let mut map = config_map("cm");
    map["metadata"]["finalizers"] = json!(["example.com/wait"]);
    server.post(CONFIG_MAPS, &map).await.ok();
    let path = format!("{CONFIG_MAPS}/cm");
    let marked = server.delete(&path, "").await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    // Deleting again changes nothing.
    let again = server.delete(&path, "").await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], marked["metadata"]["resourceVersion"]);
    let patch = json!({"metadata": {"finalizers": null}});
    server.patch(&path, "merge-patch+json", &patch).await.ok();
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn propagation_becomes_a_finalizer() {
    let server = Server::start().await;
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        let name = policy.to_lowercase();
        server.post(CONFIG_MAPS, &config_map(&name)).await.ok();
        let body = json!({"propagationPolicy": policy}).to_string();
        let marked = server.delete(&format!("{CONFIG_MAPS}/{name}"), &body).await.ok();
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
    }
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    server.delete(&format!("{CONFIG_MAPS}/b?propagationPolicy=Background"), "").await.ok();
    assert_eq!(server.get(&format!("{CONFIG_MAPS}/b")).await.code, 404);
}

#[tokio::test]
async fn pods_on_a_node_are_left_time_to_stop() {
    let server = with_service_account().await;
    server.post(PODS, &pod("free")).await.ok();
    let gone = server.delete(&format!("{PODS}/free"), "").await.ok();
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(server.get(&format!("{PODS}/free")).await.code, 404);

    let path = format!("{PODS}/bound");
    server.post(PODS, &pod("bound")).await.ok();
    let binding = json!({"metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(server.post(&format!("{path}/binding"), &binding).await.code, 201);
    let marked = server.delete(&path, "").await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let first = marked["metadata"]["deletionTimestamp"].clone();
    let shorter = server.delete(&path, &json!({"gracePeriodSeconds": 3}).to_string()).await.ok();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 3);
    assert!(shorter["metadata"]["deletionTimestamp"].as_str() < first.as_str());
    server.delete(&path, &json!({"gracePeriodSeconds": 0}).to_string()).await.ok();
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({"keep": (name == "b").to_string()});
        server.post(CONFIG_MAPS, &map).await.ok();
    }
    let deleted = server.delete(&format!("{CONFIG_MAPS}?labelSelector=keep%3Dfalse"), "").await.ok();
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let left = server.get(CONFIG_MAPS).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/ns";
    let created = server.post("/api/v1/namespaces", &json!({"metadata": {"name": "ns"}})).await.ok();
    assert_eq!(created["status"]["phase"], "Active");
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "ns");
    let mut sneaky = created.clone();
    sneaky["spec"]["finalizers"] = json!([]);
    assert_eq!(server.put(path, &sneaky).await.ok()["spec"]["finalizers"], json!(["kubernetes"]));
    let marked = server.delete(path, "").await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let (code, _, message) = server.post(&format!("{path}/configmaps"), &config_map("x")).await.failure();
    assert_eq!(code, 403, "{message}");
    let mut finalized = marked.clone();
    finalized["spec"]["finalizers"] = Value::Null;
    server.put(&format!("{path}/finalize"), &finalized).await.ok();
    assert_eq!(server.get(path).await.code, 404);
    assert_eq!(server.delete("/api/v1/namespaces/kube-system", "").await.failure().0, 403);
}

#[tokio::test]
async fn pods_of_a_job_stay_where_nothing_is_said_of_them() {
    let server = Server::start().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let job = json!({
        "metadata": {"name": "j"},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    });
    server.post(jobs, &job).await.ok();
    let deleted = server.delete(&format!("{jobs}/j"), "").await.ok();
    assert_eq!(deleted["metadata"]["finalizers"], json!(["orphan"]));
    let background = json!({"propagationPolicy": "Background"}).to_string();
    server.delete(&format!("{jobs}/j"), &background).await.ok();
    assert_eq!(server.get(&format!("{jobs}/j")).await.code, 404);
}
