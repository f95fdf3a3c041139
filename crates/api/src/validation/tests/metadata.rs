//! Names, labels and what else all kinds share.

use super::*;

#[test]
fn metadata_of_all_kinds() {
    check("v1", "ConfigMap", json!({}), &[]);
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": ""}}),
        &["metadata.name: Required value: name or generateName is required"],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": "A"}}),
        &[
            r#"metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
        ],
    );
    check("v1", "ConfigMap", json!({"metadata": {"name": "a", "generateName": "a-"}}), &[]);
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "a", "namespace": "b"}}),
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": "a", "labels": {"x": "a b", "": "y"}}}),
        &[
            r#"metadata.labels: Invalid value: "": name part must be non-empty"#,
            r#"metadata.labels: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#,
        ],
    );
    let large = "a".repeat(256 << 10);
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"annotations": {"a": large}}}),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}}),
        &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"finalizers": ["mine"]}}),
        &[
            r#"metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified"#,
        ],
    );
}

#[test]
fn metadata_is_kept() {
    let meta = |extra: Value| {
        let mut m = json!({"name": "x", "uid": "u", "finalizers": ["a/b"]});
        m.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"metadata": m})
    };
    check_update("v1", "ConfigMap", meta(json!({})), meta(json!({"labels": {"a": "b"}})), &[]);
    check_update(
        "v1",
        "ConfigMap",
        meta(json!({})),
        meta(json!({"uid": "other"})),
        &[r#"metadata.uid: Invalid value: "other": field is immutable"#],
    );
    check_update(
        "v1",
        "ConfigMap",
        meta(json!({"deletionTimestamp": "t"})),
        meta(json!({"deletionTimestamp": "t", "finalizers": ["a/b", "c/d"]})),
        &[
            r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"c/d"}"#,
        ],
    );
}

#[test]
fn unknown_kinds_have_only_metadata() {
    let custom = gvk("example.com/v1", "Thing");
    assert!(
        create(&custom, &json!({"metadata": {"name": "x", "finalizers": ["mine"]}, "spec": 5})).is_empty()
    );
    assert_eq!(create(&custom, &json!({})).len(), 1);
}
