//! Kinds with a few rules each: what is refused, in which words.

use super::tests::{check, check_update};
use super::*;
use serde_json::json;

#[track_caller]
fn check_status(api_version: &str, kind: &str, old: Value, new: Value, want: &[&str]) {
    let gvk = api_version.parse::<crate::gvk::GroupVersion>().unwrap().with_kind(kind);
    let got: Vec<String> =
        update_subresource(&gvk, "status", &new, &old).iter().map(ToString::to_string).collect();
    let got: Vec<&str> =
        got.iter().map(String::as_str).filter(|error| !error.starts_with("metadata")).collect();
    assert_eq!(got, want, "{kind}");
}

#[test]
fn events() {
    let event = json!({"regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "r", "type": "Normal",
        "reportingController": "a.b/c", "reportingInstance": "i", "action": "a", "eventTime": "2026-01-01T00:00:00.000000Z"});
    check("events.k8s.io/v1", "Event", event.clone(), &[]);
    let mut bad = event;
    bad["type"] = json!("Odd");
    bad["action"] = json!("");
    bad["deprecatedCount"] = json!(1);
    check(
        "events.k8s.io/v1",
        "Event",
        bad,
        &[
            "count: Invalid value: \"\": needs to be unset",
            "type: Invalid value: \"\": has invalid value: Odd",
            "action: Required value",
        ],
    );
    let elsewhere = json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": "other"}});
    check(
        "v1",
        "Event",
        elsewhere,
        &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
    );
}

#[test]
fn classes_and_addresses() {
    check("networking.k8s.io/v1", "IngressClass", json!({"spec": {"controller": "a.b/c"}}), &[]);
    check(
        "networking.k8s.io/v1",
        "IngressClass",
        json!({"spec": {"controller": "nope"}}),
        &[
            "spec.controller: Invalid value: \"nope\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ],
    );
    check_update(
        "networking.k8s.io/v1",
        "IngressClass",
        json!({"spec": {"controller": "a.b/c"}}),
        json!({"spec": {"controller": "a.b/d"}}),
        &["spec.controller: Invalid value: \"a.b/d\": field is immutable"],
    );
    let cidrs = |list: Value| json!({"spec": {"cidrs": list}});
    check("networking.k8s.io/v1", "ServiceCIDR", cidrs(json!(["10.0.0.0/24", "fd00::/64"])), &[]);
    check(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        cidrs(json!(["10.0.0.1/24"])),
        &["spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must be in canonical form (\"10.0.0.0/24\")"],
    );
    check_update(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        cidrs(json!(["10.0.0.0/24"])),
        cidrs(json!(["10.0.0.0/24", "fd00::/64"])),
        &[],
    );
    check_update(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        cidrs(json!(["10.0.0.0/24"])),
        cidrs(json!(["10.1.0.0/24"])),
        &["spec.cidrs: Invalid value: [\"10.1.0.0/24\"]: field is immutable"],
    );
}

#[test]
fn drivers_and_attachments() {
    check_update(
        "storage.k8s.io/v1",
        "VolumeAttachment",
        json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        json!({"spec": {"attacher": "a.b", "nodeName": "m", "source": {"persistentVolumeName": "v"}}}),
        &[
            "spec: Invalid value: {\"attacher\":\"a.b\",\"nodeName\":\"m\",\"source\":{\"persistentVolumeName\":\"v\"}}: field is immutable",
        ],
    );
    check(
        "storage.k8s.io/v1",
        "VolumeAttachment",
        json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {}}}),
        &[
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    check(
        "storage.k8s.io/v1",
        "VolumeAttributesClass",
        json!({"driverName": "a.b"}),
        &["parameters: Required value: must contain at least one key/value pair"],
    );
    check(
        "storage.k8s.io/v1",
        "CSINode",
        json!({"spec": {"drivers": [{"name": "a.b", "nodeID": "n"}, {"name": "a.b", "nodeID": ""}]}}),
        &["spec.drivers[1].name: Duplicate value: \"a.b\"", "spec.drivers[1].nodeID: Required value"],
    );
}

#[test]
fn device_claims() {
    let claim = |requests: Value| json!({"spec": {"devices": {"requests": requests}}});
    let exactly = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
    check("resource.k8s.io/v1", "ResourceClaim", claim(json!([{"name": "r", "exactly": exactly}])), &[]);
    check(
        "resource.k8s.io/v1",
        "ResourceClaim",
        claim(json!([{"name": "r"}])),
        &[
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ],
    );
    check(
        "v1",
        "Pod",
        json!({"spec": {
            "resourceClaims": [{"name": "a"}],
            "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "b"}]}}],
        }}),
        &[
            "spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            "spec.containers[0].resources.claims[0].name: Not found: \"b\"",
        ],
    );
}

#[test]
fn levels_and_schemas() {
    check(
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        json!({"spec": {"type": "Limited"}}),
        &["spec.limited: Required value: must not be empty when type is Limited"],
    );
    check(
        "flowcontrol.apiserver.k8s.io/v1",
        "FlowSchema",
        json!({"spec": {"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": "x"}}}),
        &[
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
        ],
    );
}

#[test]
fn autoscalers() {
    let metric = |metric: Value| json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "metrics": [metric]}});
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        metric(
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}),
        ),
        &[],
    );
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        metric(json!({"type": "Pods", "resource": {"name": "cpu"}})),
        &[
            "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        ],
    );
}

#[test]
fn revisions_and_quotas_stay() {
    check_update(
        "apps/v1",
        "ControllerRevision",
        json!({"revision": 1, "data": {"a": 1}}),
        json!({"revision": 2, "data": {"a": 2}}),
        &["data: Invalid value: {\"a\":2}: field is immutable"],
    );
    check(
        "v1",
        "ResourceQuota",
        json!({"spec": {"hard": {"widgets": "1", "count/widgets.a.b": "1"}}}),
        &["spec.hard[widgets]: Invalid value: \"widgets\": must be a standard resource for quota"],
    );
}

#[test]
fn statuses() {
    check_status(
        "apps/v1",
        "Deployment",
        json!({}),
        json!({"status": {"replicas": 1, "readyReplicas": 2}}),
        &["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
    );
    check_status(
        "v1",
        "Namespace",
        json!({}),
        json!({"status": {"phase": "Terminating"}}),
        &[
            "status.phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
        ],
    );
    let approved = json!([{"type": "Approved", "status": "True"}]);
    check_status(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        json!({}),
        json!({"status": {"conditions": approved}}),
        &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
    );
    check_status(
        "v1",
        "Service",
        json!({}),
        json!({"status": {"loadBalancer": {"ingress": [{"hostname": "1.2.3.4"}]}}}),
        &[
            "status.loadBalancer.ingress[0].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
        ],
    );
}
