//! Autoscalers.

use super::*;

#[test]
fn bounds() {
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 1, "minReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        &["spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`"],
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
