//! Namespaces, nodes, leases, limits, quotas, revisions.

use super::*;

#[test]
fn leases() {
    check(
        "coordination.k8s.io/v1",
        "Lease",
        json!({"spec": {"leaseDurationSeconds": 0}}),
        &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    );
}

#[test]
fn limits() {
    check(
        "v1",
        "LimitRange",
        json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}}]}}),
        &[
            r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#,
            r#"spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1"#,
            r#"spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1"#,
        ],
    );
}

#[test]
fn limits_of_what_there_is() {
    #[track_caller]
    fn item(item: Value, want: &[&str]) {
        check("v1", "LimitRange", json!({"spec": {"limits": [item]}}), want);
    }
    item(
        json!({"type": "Container", "min": {"cpu": "300m"}, "defaultRequest": {"cpu": "200m"}, "default": {"cpu": "1"}}),
        &[
            r#"spec.limits[0].defaultRequest[cpu]: Invalid value: "200m": min value 300m is greater than default request value 200m"#,
        ],
    );
    item(
        json!({"type": "Container", "default": {"example.com/gpu": "2"}, "defaultRequest": {"example.com/gpu": "1"}}),
        &[
            r#"spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: "1": default value 2 must equal to defaultRequest value 1 in example.com/gpu"#,
        ],
    );
    item(
        json!({"type": "Pots"}),
        &[r#"spec.limits[0].type: Invalid value: "Pots": must be a standard limit type or fully qualified"#],
    );
    item(
        json!({"type": "Container", "max": {"mem": "1"}, "default": {"mem": "1"}, "defaultRequest": {"mem": "1"}}),
        &[
            r#"spec.limits[0].max[mem]: Invalid value: "mem": must be a standard resource type or fully qualified"#,
            r#"spec.limits[0].max[mem]: Invalid value: "mem": must be a standard resource for containers"#,
            r#"spec.limits[0].default[mem]: Invalid value: "mem": must be a standard resource type or fully qualified"#,
            r#"spec.limits[0].default[mem]: Invalid value: "mem": must be a standard resource for containers"#,
            r#"spec.limits[0].defaultRequest[mem]: Invalid value: "mem": must be a standard resource type or fully qualified"#,
            r#"spec.limits[0].defaultRequest[mem]: Invalid value: "mem": must be a standard resource for containers"#,
        ],
    );
    item(json!({"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}}), &[]);
    item(json!({"type": "example.com/image", "max": {"storage": "1Gi"}}), &[]);
}

#[test]
fn nodes() {
    let node = |cidr: &str| json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
    check_update(
        "v1",
        "Node",
        node("10.0.0.0/24"),
        node("10.1.0.0/24"),
        &[r#"spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid"#],
    );
}

#[test]
fn statuses() {
    check_status(
        "v1",
        "Namespace",
        json!({}),
        json!({"status": {"phase": "Terminating"}}),
        &[
            "status.phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
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
        json!({"spec": {"hard": {"widgets": "1", "count/widgets.a.b": "1", "pods": "1500m", "cpu": "1500m"}}}),
        &[
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
            "spec.hard[widgets]: Invalid value: \"widgets\": must be a standard resource type or fully qualified",
            "spec.hard[widgets]: Invalid value: \"widgets\": must be a standard resource for quota",
        ],
    );
}

#[test]
fn quota_scopes() {
    let quota = |scopes: Value, hard: Value| json!({"spec": {"scopes": scopes, "hard": hard}});
    check("v1", "ResourceQuota", quota(json!(["BestEffort"]), json!({"pods": "1"})), &[]);
    check(
        "v1",
        "ResourceQuota",
        quota(json!(["BestEffort"]), json!({"cpu": "1"})),
        &[r#"spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource"#],
    );
    check(
        "v1",
        "ResourceQuota",
        quota(json!(["Terminating", "NotTerminating"]), json!({"pods": "1"})),
        &[r#"spec.scopes: Invalid value: ["Terminating","NotTerminating"]: conflicting scopes"#],
    );
}

#[test]
fn limits_of_claims_and_ratios() {
    check(
        "v1",
        "LimitRange",
        json!({"spec": {"limits": [
            {"type": "PersistentVolumeClaim"},
            {"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}, {"type": "Pod"}]}}),
        &[
            "spec.limits[0]: Required value: either minimum or maximum storage value is required, but neither was provided",
            r#"spec.limits[1].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1"#,
            r#"spec.limits[2].type: Duplicate value: "Pod""#,
        ],
    );
}
