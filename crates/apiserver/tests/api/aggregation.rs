//! APIServices: this server's own, and those of others.

use serde_json::{Value, json};

use crate::custom::{crd, define};
use crate::fixture::*;
use crate::watches::Watch;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Waits until the APIService says so.
async fn available(server: &Server, name: &str, status: &str) -> Value {
    let path = format!("{SERVICES}?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=20");
    let mut watch = Watch::open(server, &path).await;
    loop {
        let event = watch.next().await.unwrap_or_else(|| panic!("{name} never became Available={status}"));
        let condition = event["object"]["status"]["conditions"][0].clone();
        if condition["type"] == "Available" && condition["status"] == status {
            return condition;
        }
    }
}

#[tokio::test]
async fn own_group_versions_have_one() {
    let server = Server::start().await;
    for name in ["v1.", "v1.apps", "v2.autoscaling"] {
        assert_eq!(available(&server, name, "True").await["reason"], "Local");
    }
    define(&server, &crd()).await;
    available(&server, "v1.example.com", "True").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let server = Server::start().await;
    let service = json!({
        "metadata": {"name": "v1.metrics.example.com"},
        "spec": {
            "group": "metrics.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "none"},
        },
    });
    server.post(SERVICES, &service).await.ok();
    assert_eq!(available(&server, "v1.metrics.example.com", "False").await["reason"], "ServiceNotFound");
    let (code, reason, _) = server.get("/apis/metrics.example.com/v1/nodes").await.failure();
    assert_eq!((code, reason.as_str()), (503, "ServiceUnavailable"));
}
