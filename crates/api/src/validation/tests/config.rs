//! ConfigMaps and Secrets.

use super::*;

#[test]
fn configuration() {
    check(
        "v1",
        "ConfigMap",
        json!({"data": {"a/b": "x"}}),
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    let large = "a".repeat((1 << 20) + 1);
    check(
        "v1",
        "ConfigMap",
        json!({"data": {"a": large}}),
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
    check(
        "v1",
        "Secret",
        json!({"type": "kubernetes.io/tls"}),
        &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
    );
    check(
        "v1",
        "Secret",
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "c2VjcmV0"}}),
        &[
            r#"data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character in JSON"#,
        ],
    );
    let frozen = |value: &str| json!({"immutable": true, "data": {"a": value}});
    check_update("v1", "ConfigMap", frozen("1"), frozen("1"), &[]);
    check_update(
        "v1",
        "ConfigMap",
        frozen("1"),
        frozen("2"),
        &["data: Forbidden: field is immutable when `immutable` is set"],
    );
    check_update(
        "v1",
        "Secret",
        json!({}),
        json!({"type": "a"}),
        &[r#"type: Invalid value: "a": field is immutable"#],
    );
}
