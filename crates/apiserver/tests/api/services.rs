//! Addresses of Services: IPAddresses, ServiceCIDRs, and the Service that leads to the API servers.

use serde_json::{Value, json};

use crate::fixture::*;
use crate::watches::Watch;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

/// Waits for an event of an object after the revision `from`; its object.
async fn event(server: &Server, collection: &str, from: &Value, kind: &str, name: &str) -> Value {
    let from = from["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!(
        "{collection}?watch=true&resourceVersion={from}&fieldSelector=metadata.name%3D{name}&timeoutSeconds=20"
    );
    let mut watch = Watch::open(server, &path).await;
    loop {
        let event = watch.next().await.unwrap_or_else(|| panic!("{name} was never {kind}"));
        if event["type"] == kind {
            return event["object"].clone();
        }
    }
}

#[tokio::test]
async fn each_address_has_its_record() {
    let server = Server::start().await;
    let range = server.get(&format!("{RANGES}/kubernetes")).await.ok();
    assert_eq!(range["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    let ready = &range["status"]["conditions"][0];
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("True")));

    let own = server.get(&format!("{ADDRESSES}/10.96.0.1")).await.ok();
    let parent = json!({"resource": "services", "namespace": "default", "name": "kubernetes"});
    assert_eq!(own["spec"]["parentRef"], parent);
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    assert_eq!(own["metadata"]["labels"], labels);

    let made = server.post(SERVICES, &service("a", json!({}))).await.ok();
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    let record = server.get(&format!("{ADDRESSES}/{address}")).await.ok();
    assert_eq!(record["spec"]["parentRef"]["name"], "a");
    // Somebody removes it; the Service still has the address.
    server.delete(&format!("{ADDRESSES}/{address}"), "").await.ok();
    let again = event(&server, ADDRESSES, &record, "ADDED", address).await;
    assert_eq!(again["spec"], record["spec"]);
    assert_ne!(again["metadata"]["uid"], record["metadata"]["uid"]);
    server.delete(&format!("{SERVICES}/a"), "").await.ok();
    assert_eq!(server.get(&format!("{ADDRESSES}/{address}")).await.code, 404);

    let made = server.post(SERVICES, &service("b", json!({"clusterIP": address}))).await.ok();
    let external = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
    let changed = server.patch(&format!("{SERVICES}/b"), "merge-patch+json", &external).await.ok();
    assert_eq!((&made["spec"]["clusterIP"], &changed["spec"]["clusterIP"]), (&json!(address), &Value::Null));
    assert_eq!(server.get(&format!("{ADDRESSES}/{address}")).await.code, 404);

    let headless = server.post(SERVICES, &service("headless", json!({"clusterIP": "None"}))).await.ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let tried = server.send(request(
        http::Method::POST,
        &format!("{SERVICES}?dryRun=All"),
        "application/json",
        &service("dry", json!({"clusterIP": "10.96.0.77"})).to_string(),
    ));
    tried.await.ok();
    assert_eq!(server.get(&format!("{ADDRESSES}/10.96.0.77")).await.code, 404);
}

#[tokio::test]
async fn addresses_of_others_and_ranges_of_users() {
    let server = Server::start().await;
    let gateway = json!({"metadata": {"name": "10.96.0.50"},
        "spec": {"parentRef": {"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "default", "name": "g"}}});
    server.post(ADDRESSES, &gateway).await.ok();
    let wanted = |address: &str| service("a", json!({"clusterIP": address}));
    let (code, _, message) = server.post(SERVICES, &wanted("10.96.0.50")).await.failure();
    assert_eq!(code, 422);
    assert!(message.contains("provided IP is already allocated"), "{message}");

    assert_eq!(server.post(SERVICES, &wanted("10.200.0.9")).await.code, 422);
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/28"]}});
    server.post(RANGES, &range).await.ok();
    assert_eq!(server.post(SERVICES, &wanted("10.200.0.9")).await.code, 422);
    // As the controller says once it has seen it.
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    server.patch(&format!("{RANGES}/more/status"), "merge-patch+json", &ready).await.ok();
    server.post(SERVICES, &wanted("10.200.0.9")).await.ok();
    assert_eq!(server.get(&format!("{ADDRESSES}/10.200.0.9")).await.ok()["spec"]["parentRef"]["name"], "a");
}

#[tokio::test]
async fn the_way_to_the_api_servers_is_kept() {
    let server = Server::start().await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let ip = server.get(&format!("{SERVICES}/kubernetes")).await.ok()["spec"]["clusterIP"].clone();
    for collection in [SERVICES, slices, endpoints] {
        let path = format!("{collection}/kubernetes");
        let before = server.get(&path).await.ok();
        server.delete(&path, "").await.ok();
        let after = event(&server, collection, &before, "ADDED", "kubernetes").await;
        for part in ["endpoints", "subsets", "ports"] {
            assert_eq!(after[part], before[part], "{collection}");
        }
    }
    assert_eq!(server.get(&format!("{SERVICES}/kubernetes")).await.ok()["spec"]["clusterIP"], ip);
    let slice = server.get(&format!("{slices}/kubernetes")).await.ok();
    let gone = json!({"endpoints": []});
    server.patch(&format!("{slices}/kubernetes"), "merge-patch+json", &gone).await.ok();
    loop {
        if server.get(&format!("{slices}/kubernetes")).await.ok()["endpoints"] == slice["endpoints"] {
            break;
        }
        tokio::task::yield_now().await;
    }
}
