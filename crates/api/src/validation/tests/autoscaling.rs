//! Autoscalers.

use super::*;

#[test]
fn bounds() {
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 1, "minReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        &["spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`"],
    );
}

#[test]
fn autoscalers() {
    let metric = |metric: Value| json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "metrics": [metric]}});
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
fn targets_have_a_group() {
    const NONE: &str =
        r#"spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group"#;
    let target = |version: &str, kind: &str, most: i64| json!({"spec": {"maxReplicas": most, "scaleTargetRef": {"apiVersion": version, "kind": kind, "name": "d"}}});
    check("autoscaling/v2", "HorizontalPodAutoscaler", target("", "Deployment", 1), &[NONE]);
    check("autoscaling/v2", "HorizontalPodAutoscaler", target("v1", "ReplicationController", 1), &[]);
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        target("a/b/c", "Deployment", 1),
        &[r#"spec.scaleTargetRef.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#],
    );
    // One that was made before this was asked for can still be changed.
    let (old, new) = (target("", "Deployment", 1), target("", "Deployment", 2));
    check_update("autoscaling/v2", "HorizontalPodAutoscaler", old, new, &[]);
    let (old, new) = (target("apps/v1", "Deployment", 1), target("", "Deployment", 1));
    check_update("autoscaling/v2", "HorizontalPodAutoscaler", old, new, &[NONE]);
}
