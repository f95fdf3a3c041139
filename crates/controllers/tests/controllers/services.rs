//! Endpoints, EndpointSlices, mirroring.

use serde_json::{Value, json};

use crate::cluster::{Cluster, name};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";

fn pod(name: &str, play: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "web"}, "annotations": {"play": play}},
        "spec": {"hostname": name, "subdomain": "web", "containers": [{"name": "c", "image": "one",
            "ports": [{"name": "http", "containerPort": 8080}]}]}})
}

fn service(name: &str, more: Value) -> Value {
    let mut spec =
        json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

fn of(service: &str) -> String {
    format!("{SLICES}?labelSelector=kubernetes.io%2Fservice-name%3D{service}")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn endpoint<'a>(slices: &'a [Value], pod: &str) -> &'a Value {
    let all = slices.iter().flat_map(|slice| list(&slice["endpoints"]));
    all.into_iter().find(|endpoint| endpoint["targetRef"]["name"] == pod).unwrap_or(&Value::Null)
}

fn conditions(ready: bool, serving: bool, terminating: bool) -> Value {
    json!({"ready": ready, "serving": serving, "terminating": terminating})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_pods() {
    let cluster = Cluster::start().await;
    let made = cluster.post(SERVICES, service("web", json!({"clusterIP": "None"}))).await;
    // Before there is any pod there is an empty slice.
    let slices = cluster.until_all(&of("web"), |slices| slices.len() == 1).await;
    let meta = &slices[0]["metadata"];
    assert!(list(&slices[0]["endpoints"]).is_empty());
    assert_eq!(meta["generateName"], "web-");
    assert_eq!(meta["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    assert_eq!(meta["labels"]["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert_eq!(meta["labels"]["service.kubernetes.io/headless"], "");
    assert_eq!(
        meta["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"],
        made["metadata"]["creationTimestamp"]
    );

    cluster.post(PODS, pod("a", "run")).await;
    cluster.post(PODS, pod("b", "pending")).await;
    let both = |slices: &[Value]| {
        endpoint(slices, "a")["conditions"] == conditions(true, true, false)
            && endpoint(slices, "b")["conditions"] == conditions(false, false, false)
    };
    let slices = cluster.until_all(&of("web"), both).await;
    let a = endpoint(&slices, "a");
    assert_eq!((&a["hostname"], &a["nodeName"]), (&json!("a"), &json!(crate::node::NODE)));
    assert_eq!(slices[0]["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let plain = cluster
        .until(&format!("{ENDPOINTS}/web"), |endpoints| {
            endpoints["subsets"][0]["notReadyAddresses"].is_array()
        })
        .await;
    let subset = &plain["subsets"][0];
    assert_eq!(subset["addresses"][0]["targetRef"]["name"], "a");
    assert_eq!(subset["notReadyAddresses"][0]["targetRef"]["name"], "b");
    assert_eq!(plain["metadata"]["labels"]["service.kubernetes.io/headless"], "");

    // What is not ready is told as ready where the Service wants it so.
    cluster.patch(&format!("{SERVICES}/web"), json!({"spec": {"publishNotReadyAddresses": true}})).await;
    cluster
        .until_all(&of("web"), |slices| endpoint(slices, "b")["conditions"] == conditions(true, false, false))
        .await;
    cluster.patch(&format!("{SERVICES}/web"), json!({"spec": {"publishNotReadyAddresses": false}})).await;

    // One that is going still serves, but gets nothing new.
    let stays = json!({"metadata": {"annotations": {"play": "nothing"}, "finalizers": ["example.com/hold"]}});
    cluster.patch(&format!("{PODS}/a"), stays).await;
    cluster.delete_with(&format!("{PODS}/a"), json!({"gracePeriodSeconds": 30})).await;
    cluster
        .until_all(&of("web"), |slices| endpoint(slices, "a")["conditions"] == conditions(false, true, true))
        .await;
    cluster
        .until(&format!("{ENDPOINTS}/web"), |endpoints| endpoints["subsets"][0]["addresses"].is_null())
        .await;
    // A finished pod serves nobody.
    cluster.patch(&format!("{PODS}/b/status"), json!({"status": {"phase": "Failed"}})).await;
    cluster.until_all(&of("web"), |slices| endpoint(slices, "b").is_null()).await;

    // Other ports make other slices of the same endpoints.
    let ports = json!([{"name": "http", "port": 80, "targetPort": 9090}, {"name": "x", "port": 81, "protocol": "UDP"}]);
    cluster.patch(&format!("{SERVICES}/web"), json!({"spec": {"ports": ports}})).await;
    cluster
        .until_all(&of("web"), |slices| {
            slices.len() == 1 && slices[0]["ports"].as_array().is_some_and(|ports| ports.len() == 2)
        })
        .await;
    cluster.delete(&format!("{SERVICES}/web")).await;
    cluster.until_all(SLICES, |slices| !slices.iter().any(|slice| name(slice).starts_with("web-"))).await;
    cluster.gone(&format!("{ENDPOINTS}/web")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_users_keep_are_mirrored() {
    let cluster = Cluster::start().await;
    cluster.post(SERVICES, json!({"metadata": {"name": "own"}, "spec": {"ports": [{"port": 80}]}})).await;
    let own = json!({"metadata": {"name": "own", "labels": {"mine": "1"}}, "subsets": [
        {"addresses": [{"ip": "192.0.2.7"}], "notReadyAddresses": [{"ip": "192.0.2.8"}], "ports": [{"port": 8080}]}]});
    cluster.post(ENDPOINTS, own).await;
    let ready = |slices: &[Value], ip: &str| {
        let all = slices.iter().flat_map(|slice| list(&slice["endpoints"]));
        let mut found = all.filter(|endpoint| endpoint["addresses"][0] == ip);
        found.next().map(|endpoint| endpoint["conditions"]["ready"].clone())
    };
    let slices =
        cluster.until_all(&of("own"), |slices| ready(slices, "192.0.2.7") == Some(json!(true))).await;
    assert_eq!(ready(&slices, "192.0.2.8"), Some(json!(false)));
    let labels = &slices[0]["metadata"]["labels"];
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    assert_eq!(labels["mine"], "1");
    let change = json!({"subsets": [{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 8081}]}]});
    cluster.patch(&format!("{ENDPOINTS}/own"), change).await;
    cluster.until_all(&of("own"), |slices| ready(slices, "192.0.2.9").is_some() && slices.len() == 1).await;
    cluster
        .patch(
            &format!("{ENDPOINTS}/own"),
            json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}),
        )
        .await;
    cluster.until_all(&of("own"), <[_]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_is_hinted_to_zones_and_nodes() {
    let cluster = Cluster::start().await;
    for (node, zone) in [("node-0", "a"), ("n1", "b")] {
        cluster
            .post(
                "/api/v1/nodes",
                json!({"metadata": {"name": node, "labels": {"topology.kubernetes.io/zone": zone}}}),
            )
            .await;
        let status = json!({"status": {"allocatable": {"cpu": "2"}, "conditions": [{"type": "Ready", "status": "True"}]}});
        cluster.patch(&format!("/api/v1/nodes/{node}/status"), status).await;
    }
    for name in ["a", "b", "c", "d"] {
        cluster.post(PODS, pod(name, "run")).await;
    }
    cluster.post(SERVICES, service("web", json!({"trafficDistribution": "PreferSameZone"}))).await;
    let hints = |slices: &[Value], wanted: Value| {
        let all: Vec<_> = slices.iter().flat_map(|slice| list(&slice["endpoints"])).collect();
        all.len() == 4 && all.iter().all(|endpoint| endpoint["hints"] == wanted && endpoint["zone"] == "a")
    };
    cluster.until_all(&of("web"), |slices| hints(slices, json!({"forZones": [{"name": "a"}]}))).await;
    cluster
        .patch(&format!("{SERVICES}/web"), json!({"spec": {"trafficDistribution": "PreferSameNode"}}))
        .await;
    let both = json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "node-0"}]});
    cluster.until_all(&of("web"), |slices| hints(slices, both.clone())).await;
    let auto = json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}},
        "spec": {"trafficDistribution": null}});
    cluster.patch(&format!("{SERVICES}/web"), auto).await;
    let shared = |slices: &[Value]| {
        let all = slices.iter().flat_map(|slice| list(&slice["endpoints"]));
        let zones: Vec<_> =
            all.map(|endpoint| endpoint["hints"]["forZones"][0]["name"].as_str().unwrap_or("")).collect();
        zones.iter().filter(|zone| **zone == "a").count() == 2
            && zones.iter().filter(|zone| **zone == "b").count() == 2
    };
    cluster.until_all(&of("web"), shared).await;
    // Without the processors of one zone nobody can say what its share is.
    cluster.patch("/api/v1/nodes/n1/status", json!({"status": {"allocatable": {"cpu": "0"}}})).await;
    cluster.until_all(&of("web"), |slices| hints(slices, Value::Null)).await;
    cluster.event("default", "web", "TopologyAwareHintsDisabled", "allocatable CPU").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_holds_a_hundred() {
    let cluster = Cluster::start().await;
    cluster.post(SERVICES, service("web", json!({}))).await;
    let set = json!({"metadata": {"name": "many"}, "spec": {"replicas": 120, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("x", "run")["spec"]}}});
    cluster.post("/apis/apps/v1/namespaces/default/replicasets", set).await;
    let sizes = |slices: &[Value]| {
        let mut sizes: Vec<_> = slices.iter().map(|slice| list(&slice["endpoints"]).len()).collect();
        sizes.sort_unstable();
        sizes
    };
    cluster.until_all(&of("web"), |slices| sizes(slices) == [20, 100]).await;
}
