//! Nodes: their addresses, taints, the pods on them.

use serde_json::{Value, json};

use crate::cluster::{Cluster, condition};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn ready(status: &str) -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": status, "lastHeartbeatTime": "2026-01-01T00:00:00Z",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

fn taints(node: &Value) -> Vec<String> {
    let taints = node["spec"]["taints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |taint: &Value, field: &str| taint[field].as_str().unwrap_or_default().to_owned();
    taints.iter().map(|taint| format!("{}:{}", text(taint, "key"), text(taint, "effect"))).collect()
}

fn pod(name: &str, node: &str, tolerations: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "tolerations": tolerations,
        "containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_become_taints_and_taints_move_pods() {
    let cluster = Cluster::start().await;
    for node in ["n1", "n2"] {
        cluster.post(NODES, json!({"metadata": {"name": node}})).await;
        cluster.patch(&format!("{NODES}/{node}/status"), ready("True")).await;
    }
    let n1 = format!("{NODES}/n1");
    let node =
        cluster.until(&n1, |node| node["spec"]["podCIDR"].is_string() && taints(node).is_empty()).await;
    assert_eq!(node["spec"]["podCIDRs"], json!([node["spec"]["podCIDR"]]));
    cluster.until(&n1, |node| node["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] == "0").await;
    cluster.event("default", "n1", "RegisteredNode", "Node n1 event: Registered Node n1 in Controller").await;
    let stays = json!([{"operator": "Exists"}]);
    let briefly = json!([{"key": "mine", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]);
    cluster.post(PODS, pod("stays", "n1", stays)).await;
    cluster
        .post(PODS, pod("goes", "n1", json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}])))
        .await;
    cluster.post(PODS, pod("briefly", "n1", briefly)).await;
    cluster
        .until_all(PODS, |pods| pods.len() == 3 && pods.iter().all(|pod| pod["status"]["phase"] == "Running"))
        .await;

    // A node that is not ready: its pods neither.
    cluster.patch(&format!("{NODES}/n1/status"), ready("False")).await;
    let both = ["node.kubernetes.io/not-ready:NoExecute", "node.kubernetes.io/not-ready:NoSchedule"];
    cluster
        .until(&n1, |node| {
            let mut found = taints(node);
            found.sort();
            found == both
        })
        .await;
    cluster.until(&format!("{PODS}/stays"), |pod| condition(pod, "Ready")["status"] == "False").await;
    cluster.event("default", "stays", "NodeNotReady", "Node is not ready").await;
    cluster.patch(&format!("{NODES}/n1/status"), ready("True")).await;
    cluster.until(&n1, |node| taints(node).is_empty()).await;
    cluster.patch(&n1, json!({"spec": {"unschedulable": true}})).await;
    cluster.until(&n1, |node| taints(node) == ["node.kubernetes.io/unschedulable:NoSchedule"]).await;

    // A taint without a time, as kubectl makes it.
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    cluster.patch(&format!("{PODS}/goes"), held).await;
    cluster.patch(&n1, json!({"spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}})).await;
    let gone =
        cluster.until(&format!("{PODS}/goes"), |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    let target = condition(&gone, "DisruptionTarget");
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("DeletionByTaintManager")));
    cluster.event("default", "goes", "TaintManagerEviction", "Marking for deletion Pod default/goes").await;
    cluster.gone(&format!("{PODS}/briefly")).await;
    let stays = cluster.get(&format!("{PODS}/stays")).await;
    assert!(stays["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_without_a_kubelet_are_collected() {
    let cluster = Cluster::without_nodes().await;
    cluster.post(NODES, json!({"metadata": {"name": "down"}})).await;
    cluster.patch(&format!("{NODES}/down/status"), ready("False")).await;
    // Never scheduled, held by its grace only.
    cluster.post(PODS, pod("down", "down", json!([{"operator": "Exists"}]))).await;
    cluster.delete(&format!("{PODS}/down")).await;
    cluster.until(&format!("{PODS}/down"), |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    let taint =
        json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
    cluster.patch(&format!("{NODES}/down"), json!({"spec": {"taints": [taint]}})).await;
    cluster.gone(&format!("{PODS}/down")).await;
}
