//! Roles and bindings.

use super::*;

#[test]
fn roles_and_bindings() {
    check(
        "rbac.authorization.k8s.io/v1",
        "Role",
        json!({"metadata": {"name": "system:x"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
        &[],
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "Role",
        json!({"rules": [{}]}),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ],
    );
    let binding = |name: &str| json!({"roleRef": {"kind": "ClusterRole", "name": name}, "subjects": [{"kind": "User", "name": "u"}]});
    check("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", binding("a"), &[]);
    check_update(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        binding("a"),
        binding("b"),
        &[
            r#"roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"b"}: cannot change roleRef"#,
        ],
    );
}
