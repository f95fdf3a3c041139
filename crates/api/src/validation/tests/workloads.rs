//! Workloads: what keeps pods running.

use super::*;

fn workload(spec: Value) -> Value {
    let mut s = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    s.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": s})
}

#[test]
fn workloads() {
    for kind in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        check("apps/v1", kind, workload(json!({})), &[]);
        let mismatch = r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#;
        check("apps/v1", kind, workload(json!({"selector": {"matchLabels": {"a": "c"}}})), &[mismatch]);
        let missing = "spec.selector: Required value";
        check("apps/v1", kind, workload(json!({"selector": null})), &[missing, mismatch]);
        check_update("apps/v1", kind, workload(json!({})), workload(json!({"minReadySeconds": 1})), &[]);
    }
    check(
        "apps/v1",
        "Deployment",
        workload(json!({"selector": {}})),
        &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
    );
    check(
        "apps/v1",
        "Deployment",
        workload(
            json!({"replicas": -1, "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
        ),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#,
        ],
    );
    check(
        "apps/v1",
        "Deployment",
        workload(json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}})),
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    let mut never = workload(json!({}));
    never["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    check(
        "apps/v1",
        "Deployment",
        never,
        &[r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#],
    );
    let mut relabelled = workload(json!({"selector": {"matchLabels": {"a": "c"}}}));
    relabelled["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
    check_update(
        "apps/v1",
        "Deployment",
        workload(json!({})),
        relabelled.clone(),
        &[r#"spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable"#],
    );
    check_update(
        "apps/v1",
        "StatefulSet",
        workload(json!({})),
        relabelled,
        &[
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ],
    );
    // A claim template is a volume.
    let mut claims = workload(
        json!({"volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}),
    );
    claims["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/v"}]);
    check("apps/v1", "StatefulSet", claims, &[]);
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
}
