//! Scale, binding, eviction, token.

use serde_json::{Value, json};

use crate::fixture::*;

#[tokio::test]
async fn workloads_are_scaled() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    server.post(path, &deployment).await.ok();
    let scale = format!("{path}/d/scale");
    let mut current = server.get(&scale).await.ok();
    assert_eq!((&current["kind"], &current["status"]["selector"]), (&json!("Scale"), &json!("a=b")));
    current["spec"]["replicas"] = json!(3);
    assert_eq!(server.put(&scale, &current).await.ok()["spec"]["replicas"], 3);
    assert_eq!(server.put(&scale, &current).await.failure().0, 409);
    let patch = json!({"spec": {"replicas": 5}});
    assert_eq!(server.patch(&scale, "merge-patch+json", &patch).await.ok()["spec"]["replicas"], 5);
    let now = server.get(&format!("{path}/d")).await.ok();
    assert_eq!((&now["spec"]["replicas"], &now["metadata"]["generation"]), (&json!(5), &json!(3)));
    let patch = json!({"spec": {"replicas": -1}});
    assert_eq!(server.patch(&scale, "merge-patch+json", &patch).await.failure().0, 422);
    assert_eq!(server.get(&format!("{CONFIG_MAPS}/x/scale")).await.failure().0, 404);
}

#[tokio::test]
async fn appliers_of_a_scale_and_of_its_workload_see_each_other() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    server.patch(&format!("{path}/d?fieldManager=owner"), "apply-patch+yaml", &deployment).await.ok();
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 4},
    });
    let scaled = format!("{path}/d/scale?fieldManager=scaler");
    let (code, _, message) = server.patch(&scaled, "apply-patch+yaml", &scale).await.failure();
    assert_eq!(code, 409);
    assert!(message.contains("conflict with \"owner\": .spec.replicas"), "{message}");
    let forced = server.patch(&format!("{scaled}&force=true"), "apply-patch+yaml", &scale).await.ok();
    assert_eq!((&forced["kind"], &forced["spec"]["replicas"]), (&json!("Scale"), &json!(4)));
    let now = server.get(&format!("{path}/d")).await.ok();
    let entries = now["metadata"]["managedFields"].as_array().unwrap();
    let scaler = entries.iter().find(|entry| entry["manager"] == "scaler").unwrap();
    assert_eq!(
        (&scaler["operation"], &scaler["subresource"], &scaler["apiVersion"], &scaler["fieldsV1"]),
        (&json!("Apply"), &json!("scale"), &json!("apps/v1"), &json!({"f:spec": {"f:replicas": {}}}))
    );
    assert_eq!(
        server
            .patch(&format!("{path}/d?fieldManager=owner"), "apply-patch+yaml", &deployment)
            .await
            .failure()
            .0,
        409
    );
    let nobody = server.patch(&format!("{path}/d/scale"), "apply-patch+yaml", &scale).await;
    assert_eq!(nobody.failure().0, 422);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = with_service_account().await;
    server.post(PODS, &pod("p")).await.ok();
    let nominated = json!({"status": {"nominatedNodeName": "m"}});
    server.patch(&format!("{PODS}/p/status"), "merge-patch+json", &nominated).await.ok();
    let binding = json!({"metadata": {"name": "p", "annotations": {"x": "y"}}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(server.post(&format!("{PODS}/p/binding"), &binding).await.code, 201);
    let bound = server.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["x"]),
        (&json!("n"), &json!("y"))
    );
    assert_eq!(
        (&bound["metadata"]["generation"], &bound["status"]["nominatedNodeName"]),
        (&json!(1), &Value::Null)
    );
    let condition = &bound["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("PodScheduled"), &json!("True")));
    assert_eq!(server.post(&format!("{PODS}/p/binding"), &binding).await.failure().0, 409);
    let nowhere = json!({"metadata": {"name": "p"}, "target": {"kind": "Node"}});
    assert_eq!(server.post(&format!("{PODS}/p/binding"), &nowhere).await.failure().0, 422);
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let server = with_service_account().await;
    server.post(PODS, &pod("p")).await.ok();
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    server.patch(&format!("{PODS}/p/status"), "merge-patch+json", &ready).await.ok();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}});
    server.post(budgets, &budget).await.ok();
    let status = |allowed: i64| {
        json!({"status": {
            "observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 1, "currentHealthy": 1 + allowed, "expectedPods": 2,
        }})
    };
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    server.patch(&format!("{budgets}/b/status"), "merge-patch+json", &status(0)).await.ok();
    let (code, reason, message) = server.post(&format!("{PODS}/p/eviction"), &eviction).await.failure();
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    assert!(message.contains("disruption budget"), "{message}");
    server.patch(&format!("{budgets}/b/status"), "merge-patch+json", &status(1)).await.ok();
    let mut second = budget.clone();
    second["metadata"]["name"] = json!("second");
    server.post(budgets, &second).await.ok();
    let (code, reason, message) = server.post(&format!("{PODS}/p/eviction"), &eviction).await.failure();
    assert_eq!((code, reason.as_str()), (500, ""));
    assert_eq!(
        message,
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    server.delete(&format!("{budgets}/second"), "").await.ok();
    let old = json!({"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "p"}});
    assert_eq!(server.post(&format!("{PODS}/p/eviction"), &old).await.code, 201);
    assert_eq!(server.get(&format!("{PODS}/p")).await.code, 404);
    let spent = server.get(&format!("{budgets}/b")).await.ok();
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["p"].is_string());
}

#[tokio::test]
async fn service_accounts_get_tokens() {
    let server = with_service_account().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = server.post(path, &json!({"spec": {"audiences": ["x"]}})).await;
    assert_eq!(answer.code, 201);
    assert_eq!(answer.ok()["status"]["token"].as_str().unwrap().split('.').count(), 3);
}

#[tokio::test]
async fn a_job_selects_its_own_pods() {
    let server = Server::start().await;
    let job = json!({
        "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    });
    let created = server.post("/apis/batch/v1/namespaces/default/jobs", &job).await.ok();
    let uid = &created["metadata"]["uid"];
    assert_eq!(&created["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], uid);
    assert_eq!(&created["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/controller-uid"], uid);
}
