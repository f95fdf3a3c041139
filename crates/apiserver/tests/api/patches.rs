//! Patches through the server: types, conflicts, creation by apply, retries.

use http::Method;
use serde_json::{Value, json};

use crate::fixture::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

#[tokio::test]
async fn all_types_are_applied() {
    let server = Server::start().await;
    server.post(DEPLOYMENTS, &deployment("one")).await.ok();
    let path = format!("{DEPLOYMENTS}/d");
    let json_patch = json!([{"op": "test", "path": "/spec/replicas", "value": 1}, {"op": "replace", "path": "/spec/replicas", "value": 2}]);
    assert_eq!(server.patch(&path, "json-patch+json", &json_patch).await.ok()["spec"]["replicas"], 2);
    let (code, ..) = server.patch(&path, "json-patch+json", &json_patch).await.failure();
    assert_eq!(code, 422);
    let merged = server.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!(merged["spec"]["replicas"], 3);
    let sidecar = json!({"spec": {"template": {"spec": {"containers": [{"name": "s", "image": "side"}]}}}});
    let strategic = server.patch(&path, "strategic-merge-patch+json", &sidecar).await.ok();
    assert_eq!(strategic["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
    // The new container has been defaulted.
    let containers = &strategic["spec"]["template"]["spec"]["containers"];
    assert!(containers.as_array().unwrap().iter().all(|container| container["imagePullPolicy"].is_string()));
    assert_eq!(server.patch(&path, "x-patch+json", &json!({})).await.failure().0, 415);
    let bad = http::Method::PATCH;
    let answer = server.send(request(bad, &path, "application/merge-patch+json", "{")).await;
    assert_eq!(answer.failure().0, 400);
    let wrong = json!({"spec": {"replicas": "many"}});
    assert_eq!(server.patch(&path, "merge-patch+json", &wrong).await.failure().0, 422);
    let rename = json!({"metadata": {"name": "other"}});
    assert_eq!(server.patch(&path, "merge-patch+json", &rename).await.failure().0, 400);
    assert_eq!(
        server.patch(&format!("{DEPLOYMENTS}/none"), "merge-patch+json", &json!({})).await.failure().0,
        404
    );
}

#[tokio::test]
async fn a_patch_with_a_version_conflicts_and_one_without_is_tried_again() {
    let server = Server::start().await;
    let created = server.post(CONFIG_MAPS, &config_map("cm")).await.ok();
    let path = format!("{CONFIG_MAPS}/cm");
    let patches = (0..20).map(|count| {
        let (server, path) = (&server, &path);
        async move {
            let patch = json!({"data": {format!("k{count}"): "v"}});
            server.patch(path, "merge-patch+json", &patch).await.ok();
        }
    });
    futures::future::join_all(patches).await;
    let now = server.get(&path).await.ok();
    assert_eq!(now["data"].as_object().unwrap().len(), 21);
    let stale =
        json!({"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "data": {"x": "y"}});
    assert_eq!(server.patch(&path, "merge-patch+json", &stale).await.failure().0, 409);
}

#[tokio::test]
async fn apply_creates_owns_conflicts_and_forces() {
    let server = Server::start().await;
    let apply = async |manager: &str, more: &str, image: &str| {
        let path = format!("{DEPLOYMENTS}/d?fieldManager={manager}{more}");
        server.patch(&path, "apply-patch+yaml", &deployment(image)).await
    };
    assert_eq!(apply("one", "", "first").await.code, 201);
    let again = apply("one", "", "first").await;
    assert_eq!(again.code, 200);
    let version = again.ok()["metadata"]["resourceVersion"].clone();
    assert_eq!(apply("one", "", "first").await.ok()["metadata"]["resourceVersion"], version);
    let conflict = apply("two", "", "second").await;
    let (code, reason, message) = conflict.failure();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("conflict with \"one\""), "{message}");
    assert_eq!(conflict.json()["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let forced = apply("two", "&force=true", "second").await.ok();
    assert_eq!(forced["spec"]["template"]["spec"]["containers"][0]["image"], "second");
    let (code, ..) =
        server.patch(&format!("{DEPLOYMENTS}/d"), "apply-patch+yaml", &deployment("x")).await.failure();
    assert_eq!(code, 422);
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: z}\ndata: {a: b}\n";
    let path = format!("{CONFIG_MAPS}/z?fieldManager=m");
    let made = server.send(request(http::Method::PATCH, &path, "application/apply-patch+yaml", yaml)).await;
    assert_eq!(made.ok()["data"]["a"], "b");
}

#[tokio::test]
async fn what_is_applied_is_declared() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d?fieldManager=m";
    let apply = async |query: &str, body: &str| {
        let mut request =
            request(Method::PATCH, &format!("{path}{query}"), "application/apply-patch+yaml", "");
        *request.body_mut() = body.to_owned().into();
        server.send(request).await
    };
    let kind = "kind: Deployment\nmetadata: {name: d}\n";
    let check = async |query: &str, body: String, code: u16, reason: &str, message: &str| {
        let failure = apply(query, &body).await.failure();
        assert_eq!(failure, (code, reason.to_owned(), message.to_owned()));
    };
    let deployment = |spec: &str| format!("apiVersion: apps/v1\n{kind}spec: {spec}\n");
    let untyped = "failed to create typed patch object (/d; apps/v1, Kind=Deployment): ";
    let containers = "{replica: 1, template: {spec: {containers: [{name: c, imagee: x}]}}}";
    let expected = format!(
        "{untyped}errors:\n  .spec.replica: field not declared in schema\n  \
         .spec.template.spec.containers[name=\"c\"].imagee: field not declared in schema"
    );
    check("&fieldValidation=Ignore", deployment(containers), 500, "", &expected).await;
    check(
        "",
        format!("apiVersion: v1\n{kind}"),
        400,
        "BadRequest",
        "invalid object type: /v1, Kind=Deployment",
    )
    .await;
    let with_uid = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, uid: x}\n".to_owned();
    let expected = "Operation cannot be fulfilled on deployments.apps \"d\": uid mismatch: the provided object specified uid x, and no existing object was found";
    check("", with_uid, 409, "Conflict", expected).await;
    let twice = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  paused: true\n  paused: false\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: i}]}\n";
    let expected = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"paused\" already set in map";
    check("&fieldValidation=Strict", twice.to_owned(), 400, "BadRequest", expected).await;
    let warned = apply("&fieldValidation=Warn", twice).await;
    assert_eq!(warned.headers["warning"], "299 - \"line 6: key \\\"paused\\\" already set in map\"");
    warned.ok();
}

#[tokio::test]
async fn what_is_wrong_with_a_patch_is_told_in_full() {
    let server = Server::start().await;
    server.post(DEPLOYMENTS, &deployment("one")).await.ok();
    let check = async |media: &str, query: &str, body: &str, code: u16, says: &str, warned: &[&str]| {
        let media = format!("application/{media}");
        let path = format!("{DEPLOYMENTS}/d?{query}");
        let answer = server.send(request(Method::PATCH, &path, &media, body)).await;
        let warnings = answer.warnings();
        let told = answer.json();
        let message = told["message"].as_str().unwrap_or_default();
        assert_eq!(answer.code.as_u16(), code, "{body}: {message}");
        assert!(message.contains(says), "{body}: {message}");
        assert_eq!(warnings.len(), warned.len(), "{body}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(warned) {
            assert!(warning.contains(expected), "{body}: {warnings:?}");
        }
    };
    const MERGE: &str = "merge-patch+json";
    const STRATEGIC: &str = "strategic-merge-patch+json";
    const APPLY: &str = "apply-patch+yaml";
    let strict = "fieldValidation=Strict";
    let odd = r#"{"spec": {"foo": 1, "paused": true, "paused": true}}"#;
    let both = r#"strict decoding error: duplicate field "spec.paused", unknown field "spec.foo""#;
    check(MERGE, strict, odd, 422, both, &[]).await;
    check(STRATEGIC, strict, odd, 422, both, &[]).await;
    check(STRATEGIC, strict, odd, 422, "Invalid value: \"map[spec:map[foo:1 paused:true]]\"", &[]).await;
    check(MERGE, "", odd, 200, "", &["spec.paused", "spec.foo"]).await;
    check(MERGE, "fieldValidation=Ignore", odd, 200, "", &[]).await;
    // Warnings are given beside what refuses the change.
    let refused = r#"{"spec": {"foo": 1, "replicas": -1}}"#;
    check(MERGE, "", refused, 422, "spec.replicas: Invalid value: -1", &["spec.foo"]).await;
    let operation = r#"[{"op": "replace", "path": "/spec/replicas", "value": 2, "why": "x"}]"#;
    check("json-patch+json", strict, operation, 422, r#"json patch unknown field "[0].why""#, &[]).await;
    check("json-patch+json", "", r#"[{"op": "add", "path": "/x"}]"#, 400, "missing value field", &[]).await;
    check(MERGE, "", r#"{"kind": "Pod"}"#, 422, "no kind \"Pod\" is registered for version \"apps/v1\"", &[])
        .await;
    check(MERGE, "", r#"{"metadata": null}"#, 400, "name must be provided", &[]).await;
    check(
        MERGE,
        "",
        r#"{"metadata": {"uid": "x"}}"#,
        422,
        "metadata.uid: Invalid value: \"x\": field is immutable",
        &[],
    )
    .await;
    let applied = |rest: &str| format!(r#"{{"apiVersion": "apps/v1", "kind": "Deployment", {rest}}}"#);
    let by = "fieldManager=a";
    let own = applied(r#""metadata": {"managedFields": []}"#);
    check(APPLY, by, &own, 400, "metadata.managedFields must be nil", &[]).await;
    let untyped = applied(r#""metadata": {}, "spec": {"replicas": "x"}"#);
    let why = r#".spec.replicas: expected numeric (int or float), got &value.valueUnstructured{Value:"x"}"#;
    check(APPLY, by, &untyped, 500, why, &[]).await;
    let list = applied(r#""metadata": {}, "spec": ["x"]"#);
    check(APPLY, by, &list, 500, ".spec: expected map, got &{[x]}", &[]).await;
    let nameless = "the name of the object (d based on URL) was undeterminable: name must be provided";
    check(APPLY, by, &applied(r#""metadata": {"name": null}"#), 400, nameless, &[]).await;
    check(APPLY, by, &applied(r#""metadata": null"#), 400, nameless, &[]).await;
    // Its creation is the server's to tell.
    let created = |time: &str| applied(&format!(r#""metadata": {{"creationTimestamp": {time}}}"#));
    check(APPLY, by, &created("\"bad\""), 200, "", &[]).await;
    let why = ".metadata.creationTimestamp: expected any scalar, got &{map[]}";
    check(APPLY, by, &created("{}"), 500, why, &[]).await;
    check("json-patch+json", "", r#"[{"op": "replace", "path": "", "value": 1}]"#, 200, "", &[]).await;
    let root =
        "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type";
    check("json-patch+json", "", r#"[{"op": "replace", "path": "", "value": []}]"#, 422, root, &[]).await;
    check(MERGE, "fieldValidation=Ignore", "[]", 422, root, &[]).await;
    check(MERGE, "fieldValidation=Ignore", "1", 400, "Invalid JSON Patch", &[]).await;
    let version = "cannot unmarshal number into Go struct field .apiVersion of type string";
    check(MERGE, "", r#"{"apiVersion": 1}"#, 422, version, &[]).await;
    check(APPLY, by, "[]", 400, "cannot unmarshal array into Go value of type map[string]interface {}", &[])
        .await;
}

#[tokio::test]
async fn who_binds_a_pod_owns_nothing() {
    let server = with_service_account().await;
    server.post(PODS, &pod("p")).await.ok();
    let before = server.get(&format!("{PODS}/p")).await.ok()["metadata"]["managedFields"].clone();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(server.post(&format!("{PODS}/p/binding"), &binding).await.code, 201);
    let bound = server.get(&format!("{PODS}/p")).await.ok();
    assert_eq!((&bound["spec"]["nodeName"], &bound["metadata"]["managedFields"]), (&json!("n"), &before));
}
