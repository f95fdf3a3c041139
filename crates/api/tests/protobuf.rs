//! The table-driven protobuf codec against messages that prost generated from upstream's definitions.

use api::codec::protobuf::{decode, encode, encode_message, envelope, schema_of};
use api::gvk::GroupVersionKind;
use prost::Message;
use serde_json::{Value, json};

/// What is encoded here is understood by the generated type, and what that writes is understood here.
#[track_caller]
fn check<M: Message + Default>(object: Value, inspect: impl FnOnce(&M)) {
    let gvk = GroupVersionKind::of(&object).unwrap();
    let raw = encode_message(&schema_of(&gvk).unwrap(), &object).unwrap();
    let message = M::decode(&raw[..]).unwrap();
    inspect(&message);
    assert_eq!(message.encoded_len(), raw.len(), "prost knows all of it");
    let back = decode(&envelope(&gvk.api_version(), &gvk.kind, &message.encode_to_vec())).unwrap();
    assert_eq!(back, object);
    assert_eq!(decode(&encode(&object).unwrap()).unwrap(), object);
}

#[test]
fn pods() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 3,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}],
            "managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": {"f:metadata": {}}}],
        },
        "spec": {
            "containers": [{
                "name": "c", "image": "i", "args": ["x", ""], "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}],
                "envFrom": [{"configMapRef": {"name": "m", "optional": false}}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"port": "http"}, "initialDelaySeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 8080}},
                "securityContext": {"runAsUser": 0, "capabilities": {"drop": ["ALL"]}},
            }],
            "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c"}],
            "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "c"}}], "defaultMode": 420}},
            ],
            "tolerations": [{"key": "k", "tolerationSeconds": -1}],
            "terminationGracePeriodSeconds": 0,
        },
        "status": {"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}]},
    });
    check(pod, |pod: &k8s_pb::api::core::v1::Pod| {
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.termination_grace_period_seconds, Some(0));
        assert_eq!(spec.tolerations[0].toleration_seconds, Some(-1));
        assert!(spec.volumes[0].volume_source.as_ref().unwrap().empty_dir.is_some());
        let container = &spec.containers[0];
        assert_eq!(container.resources.as_ref().unwrap().limits["cpu"].string.as_deref(), Some("100m"));
        let probe = container.readiness_probe.as_ref().unwrap().handler.as_ref().unwrap();
        assert_eq!(probe.tcp_socket.as_ref().unwrap().port.as_ref().unwrap().int_val, Some(8080));
        let created = pod.metadata.as_ref().unwrap().creation_timestamp.as_ref().unwrap();
        assert_eq!(created.seconds, Some(1_767_323_045));
    });
}

#[test]
fn secrets_and_leases() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "aGVsbG8="}, "type": "Opaque"});
    check(secret, |secret: &k8s_pb::api::core::v1::Secret| assert_eq!(secret.data["k"], b"hello"));
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40, "renewTime": "1969-12-31T23:59:59.500000Z"},
    });
    check(lease, |lease: &k8s_pb::api::coordination::v1::Lease| {
        let time = lease.spec.as_ref().unwrap().renew_time.as_ref().unwrap();
        assert_eq!((time.seconds, time.nanos), (Some(-1), Some(500_000_000)));
    });
}

#[test]
fn workloads_and_services() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "c"}]}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
        },
    });
    check(deployment, |deployment: &k8s_pb::api::apps::v1::Deployment| {
        assert_eq!(deployment.spec.as_ref().unwrap().replicas, Some(0));
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "spec": {"ports": [{"port": 80, "targetPort": "web"}], "selector": {"a": "b"}, "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}},
    });
    check(service, |_: &k8s_pb::api::core::v1::Service| {});
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "u", "extra": {"scopes": ["a", "b"]}}, "status": {"allowed": true},
    });
    check(review, |review: &k8s_pb::api::authorization::v1::SubjectAccessReview| {
        assert_eq!(review.spec.as_ref().unwrap().extra["scopes"].items, ["a", "b"]);
    });
}

#[test]
fn admission_and_extensions() {
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "webhooks": [{
            "name": "w", "clientConfig": {"url": "https://x", "caBundle": "YQ=="}, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}],
        }],
    });
    check(webhook, |webhook: &k8s_pb::api::admissionregistration::v1::ValidatingWebhookConfiguration| {
        assert_eq!(webhook.webhooks[0].rules[0].rule.as_ref().unwrap().resources, ["pods"]);
    });
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "maximum": 1.5,
                "properties": {"spec": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-preserve-unknown-fields": true}},
                "items": {"type": "string"}, "default": {"a": 1}, "enum": ["a", 1], "additionalProperties": false,
            }}}],
        },
    });
    check(
        crd,
        |crd: &k8s_pb::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            let schema = crd.spec.as_ref().unwrap().versions[0]
                .schema
                .as_ref()
                .unwrap()
                .open_apiv3_schema
                .as_ref()
                .unwrap();
            assert!(schema.properties["spec"].x_kubernetes_preserve_unknown_fields.unwrap());
            assert_eq!(schema.maximum, Some(1.5));
        },
    );
}

/// Fields of v1.36 that the published definitions do not have, and zeroes that Go's types keep or leave out.
#[test]
fn fields_that_are_new_are_kept() {
    let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c"}],
    }, "status": {"containerStatuses": [{
        "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "volumeMounts": [{"name": "v", "mountPath": "/v", "volumeStatus": {"image": {"imageRef": "r@sha256:1"}}}],
        "allocatedResourcesStatus": [{"name": "n", "resources": [{"resourceID": "r", "message": "warm"}]}],
    }]}});
    let encoded = api::codec::protobuf::encode(&pod).expect("a pod has a protobuf form");
    let mut decoded = api::codec::protobuf::decode(&encoded).expect("it was encoded");
    let status = &mut decoded["status"]["containerStatuses"][0];
    assert_eq!(status["volumeMounts"][0]["volumeStatus"]["image"]["imageRef"], "r@sha256:1");
    assert_eq!(status["allocatedResourcesStatus"][0]["resources"][0]["message"], "warm");
    let mut set = serde_json::json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "status": {
        "replicas": 0, "availableReplicas": 0, "readyReplicas": 0,
    }});
    let schema = api::gvk::GroupVersionKind::of(&set).and_then(|gvk| api::codec::protobuf::schema_of(&gvk));
    schema.expect("it is built in").check(&mut set);
    assert_eq!(set["status"], serde_json::json!({"replicas": 0, "availableReplicas": 0}));
}
