//! Create, read, update: metadata, conflicts, dry run, field validation, namespaces.

use http::Method;
use serde_json::{Value, json};

use crate::fixture::*;

#[tokio::test]
async fn an_object_is_created_read_and_updated() {
    let server = Server::start().await;
    let created = server.post(CONFIG_MAPS, &config_map("cm")).await;
    assert_eq!(created.code, 201);
    let created = created.ok();
    assert_eq!((&created["kind"], &created["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        assert!(metadata[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    assert_eq!(metadata["managedFields"][0]["manager"], "tester");
    assert_eq!(server.get(&format!("{CONFIG_MAPS}/cm")).await.ok(), created);

    let mut changed = created.clone();
    changed["data"]["b"] = json!("2");
    let updated = server.put(&format!("{CONFIG_MAPS}/cm"), &changed).await.ok();
    assert_eq!(updated["data"], json!({"a": "1", "b": "2"}));
    assert_ne!(updated["metadata"]["resourceVersion"], metadata["resourceVersion"]);
    assert_eq!(updated["metadata"]["uid"], metadata["uid"]);
    assert_eq!(server.get(&format!("{CONFIG_MAPS}/cm")).await.ok(), updated);

    // The same again changes nothing.
    let same = server.put(&format!("{CONFIG_MAPS}/cm"), &updated).await.ok();
    assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);

    let (code, reason, message) = server.put(&format!("{CONFIG_MAPS}/cm"), &changed).await.failure();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"cm\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let (code, reason, message) = server.post(CONFIG_MAPS, &config_map("cm")).await.failure();
    assert_eq!(
        (code, reason.as_str(), message.as_str()),
        (409, "AlreadyExists", "configmaps \"cm\" already exists")
    );
    let (code, reason, message) = server.get(&format!("{CONFIG_MAPS}/none")).await.failure();
    assert_eq!((code, reason.as_str(), message.as_str()), (404, "NotFound", "configmaps \"none\" not found"));
}

#[tokio::test]
async fn what_a_client_may_not_set_is_the_servers() {
    let server = Server::start().await;
    let mut object = config_map("cm");
    object["metadata"]["uid"] = json!("mine");
    object["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    object["metadata"]["generation"] = json!(7);
    let created = server.post(CONFIG_MAPS, &object).await.ok();
    assert_ne!(created["metadata"]["uid"], "mine");
    assert_eq!(created["metadata"]["deletionTimestamp"], Value::Null);
    assert_eq!(created["metadata"]["generation"], Value::Null);
    let mut other = created.clone();
    other["metadata"]["uid"] = json!("other");
    assert_eq!(server.put(&format!("{CONFIG_MAPS}/cm"), &other).await.failure().0, 409);
    let mut later = created.clone();
    later["metadata"]["creationTimestamp"] = json!("2030-01-01T00:00:00Z");
    let updated = server.put(&format!("{CONFIG_MAPS}/cm"), &later).await.ok();
    assert_eq!(updated["metadata"]["creationTimestamp"], created["metadata"]["creationTimestamp"]);
}

#[tokio::test]
async fn names_and_namespaces_must_agree() {
    let server = Server::start().await;
    let created = server.post(CONFIG_MAPS, &config_map("cm")).await.ok();
    let mut other = created.clone();
    other["metadata"]["name"] = json!("other");
    let (code, _, message) = server.put(&format!("{CONFIG_MAPS}/cm"), &other).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (400, "the name of the object (other) does not match the name on the URL (cm)")
    );
    let mut other = config_map("x");
    other["metadata"]["namespace"] = json!("kube-system");
    let (code, _, message) = server.post(CONFIG_MAPS, &other).await.failure();
    assert_eq!(code, 400);
    assert!(message.contains("does not match the namespace"), "{message}");
    let (code, _, message) =
        server.post("/api/v1/namespaces/none/configmaps", &config_map("x")).await.failure();
    assert_eq!((code, message.as_str()), (404, "namespaces \"none\" not found"));
    assert_eq!(server.post(CONFIG_MAPS, &json!({"metadata": {}})).await.failure().0, 422);
    assert_eq!(server.get("/api/v1/configmaps/cm").await.failure().0, 404);
}

#[tokio::test]
async fn names_are_generated() {
    let server = Server::start().await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let created = server.post(CONFIG_MAPS, &json!({"metadata": {"generateName": "web-"}})).await.ok();
        let name = created["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        names.push(name);
    }
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let server = Server::start().await;
    let created = server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("cm")).await;
    assert_eq!(created.code, 201);
    assert!(created.ok()["metadata"]["uid"].is_string());
    assert_eq!(server.get(&format!("{CONFIG_MAPS}/cm")).await.code, 404);
    assert_eq!(server.get(CONFIG_MAPS).await.ok()["items"], json!([]));

    server.post(CONFIG_MAPS, &config_map("cm")).await.ok();
    assert_eq!(server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("cm")).await.code, 409);
    let patch = json!({"data": {"a": "9"}});
    let patched =
        server.patch(&format!("{CONFIG_MAPS}/cm?dryRun=All"), "merge-patch+json", &patch).await.ok();
    assert_eq!(patched["data"]["a"], "9");
    assert_eq!(server.delete(&format!("{CONFIG_MAPS}/cm?dryRun=All"), "").await.code, 200);
    assert_eq!(server.get(&format!("{CONFIG_MAPS}/cm")).await.ok()["data"]["a"], "1");
    assert_eq!(server.post(&format!("{CONFIG_MAPS}?dryRun=Some"), &config_map("x")).await.failure().0, 422);
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_handled_as_asked() {
    let server = Server::start().await;
    let text = r#"{"metadata": {"name": "NAME"}, "data": {"a": "1"}, "data": {"a": "2"}, "dota": {}}"#;
    let send = |name: &str, mode: &str| {
        let path = format!("{CONFIG_MAPS}?fieldValidation={mode}");
        server.send(request(http::Method::POST, &path, "application/json", &text.replace("NAME", name)))
    };
    let warned = send("warn", "Warn").await;
    let object = warned.ok();
    assert_eq!((&object["data"]["a"], &object["dota"]), (&json!("2"), &Value::Null));
    let warnings = warned.warnings();
    assert!(warnings.contains(&r#"299 - "unknown field \"dota\"""#), "{warnings:?}");
    assert!(warnings.contains(&r#"299 - "duplicate field \"data\"""#), "{warnings:?}");
    let ignored = send("ignore", "Ignore").await;
    ignored.ok();
    assert_eq!(ignored.warnings(), Vec::<&str>::new());
    let (code, reason, message) = send("strict", "Strict").await.failure();
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert!(
        message.contains("strict decoding error") && message.contains("unknown field \"dota\""),
        "{message}"
    );
    assert!(
        message.ends_with(r#"strict decoding error: duplicate field "data", unknown field "dota""#),
        "{message}"
    );
    // As they come, and nothing more of what is unknown.
    let text = r#"{"data": {}, "odd": {"a": 1, "a": 2}, "odd": 3, "data": {}, "even": 4}"#;
    let strict = request(
        http::Method::POST,
        &format!("{CONFIG_MAPS}?fieldValidation=Strict"),
        "application/json",
        text,
    );
    let (.., message) = server.send(strict).await.failure();
    let expected =
        r#"strict decoding error: unknown field "odd", duplicate field "data", unknown field "even""#;
    assert!(message.ends_with(expected), "{message}");
    assert_eq!(send("x", "Sometimes").await.failure().0, 422);
}

#[tokio::test]
async fn a_wrong_type_is_told_as_go_does() {
    let server = Server::start().await;
    let (code, _, message) = server.post(CONFIG_MAPS, &json!({"metadata": {"name": 5}})).await.failure();
    assert_eq!(code, 400);
    assert!(
        message.starts_with(
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number"
        ),
        "{message}"
    );
}

#[tokio::test]
async fn generation_follows_the_spec_alone() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
        "status": {"replicas": 9},
    });
    let created = server.post(path, &deployment).await.ok();
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(created["status"].as_object().map_or(0, |status| status.len()), 0, "{}", created["status"]);
    let one = format!("{path}/d");
    let labelled = json!({"metadata": {"labels": {"x": "y"}}, "status": {"replicas": 5}});
    let labelled = server.patch(&one, "merge-patch+json", &labelled).await.ok();
    assert_eq!(labelled["metadata"]["generation"], 1);
    assert_eq!(labelled["status"]["replicas"], Value::Null);
    let scaled = server.patch(&one, "merge-patch+json", &json!({"spec": {"replicas": 4}})).await.ok();
    assert_eq!(scaled["metadata"]["generation"], 2);
    let status =
        json!({"spec": {"replicas": 8}, "status": {"replicas": 3}, "metadata": {"labels": {"x": "z"}}});
    let status = server.patch(&format!("{one}/status"), "merge-patch+json", &status).await.ok();
    assert_eq!(status["metadata"]["generation"], 2);
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(4), &json!(3)));
    assert_eq!(status["metadata"]["labels"]["x"], "y");
}

#[tokio::test]
async fn leases_are_made_by_an_update() {
    let server = Server::start().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    let lease =
        json!({"metadata": {"name": "n"}, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}});
    let mut made = server.put(path, &lease).await.ok();
    // Whoever renews a lease says which state of it he has seen.
    let (code, _, message) = server.put(path, &lease).await.failure();
    assert_eq!(code, 422);
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
    for version in [json!(""), json!("0"), json!(null)] {
        let unversioned = json!({"metadata": {"resourceVersion": version}});
        assert_eq!(server.patch(path, "merge-patch+json", &unversioned).await.code, 422, "{unversioned}");
    }
    made["spec"]["leaseDurationSeconds"] = json!(50);
    assert_eq!(server.put(path, &made).await.code, 200);
    assert_eq!(server.put(&format!("{CONFIG_MAPS}/none"), &config_map("none")).await.code, 404);
}

#[tokio::test]
async fn versions_are_numbers() {
    let server = Server::start().await;
    let path = format!("{CONFIG_MAPS}/v");
    let versioned = |version: Value| {
        let mut object = config_map("v");
        object["metadata"]["resourceVersion"] = version;
        object
    };
    // Whoever makes an object cannot know its version; what is none is passed over.
    assert_eq!(server.post(CONFIG_MAPS, &versioned(json!("1"))).await.code, 500);
    assert_eq!(server.post(CONFIG_MAPS, &versioned(json!("none"))).await.code, 201);
    for (version, why) in
        [("a", "invalid syntax"), ("-1", "invalid syntax"), ("99999999999999999999", "value out of range")]
    {
        let expected = (500, String::new(), format!("strconv.ParseUint: parsing {version:?}: {why}"));
        assert_eq!(server.put(&path, &versioned(json!(version))).await.failure(), expected);
        assert_eq!(
            server.patch(&path, "merge-patch+json", &versioned(json!(version))).await.failure(),
            expected
        );
    }
    assert_eq!(server.put(&path, &versioned(json!(0))).await.code, 400);
    let options = json!({"preconditions": {"resourceVersion": 5}});
    let (code, _, message) = server.delete(&path, &options.to_string()).await.failure();
    let expected = "json: cannot unmarshal number into Go struct field Preconditions.preconditions.resourceVersion of type string";
    assert_eq!((code, message.as_str()), (400, expected));
    assert_eq!(server.put(&path, &versioned(json!("0"))).await.code, 200);
}

#[tokio::test]
async fn every_cluster_has_its_objects() {
    let server = Server::start().await;
    for path in [
        "/api/v1/namespaces/kube-system",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
    ] {
        server.get(path).await.ok();
    }
    let service = server.get("/api/v1/namespaces/default/services/kubernetes").await.ok();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn a_started_server_finds_what_was_stored() {
    let files = tempfile::tempdir().unwrap();
    let store = store::Store::in_memory().unwrap();
    let start = || apiserver::ApiServer::start(config(&files), store.clone());
    let written = |server: &apiserver::ApiServer| {
        let resource = |plural: &str| server.state().caches.resource("", plural);
        let revision = |plural: &str, key: &str| resource(plural).get(key).map(|object| object.revision);
        [revision("namespaces", "default"), revision("services", "default/kubernetes")]
    };
    let first = start().await.unwrap();
    let before = written(&first);
    assert!(before.iter().all(Option::is_some), "{before:?}");
    drop(first);
    let second = start().await.unwrap();
    // Nothing had to be written again.
    assert_eq!(written(&second), before);
}

#[tokio::test]
async fn what_is_no_such_object_is_told_so() {
    let server = Server::start().await;
    let check = async |body: &str, expected: &str| {
        let posted = request(Method::POST, CONFIG_MAPS, "application/json", body);
        let failure = server.send(posted).await.failure();
        assert_eq!(failure, (400, "BadRequest".to_owned(), expected.to_owned()));
    };
    let unrecognized = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: ";
    check("", &format!("{unrecognized}unexpected end of JSON input (<empty>)")).await;
    let broken =
        format!("{unrecognized}invalid character 'b' looking for beginning of object key string ({{bad)");
    check("{bad", &broken).await;
    let list = "json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
    check("[]", &format!("{unrecognized}{list} (5b5d)")).await;
    let kinds = [
        ("Pod", "v1", "converting (v1.Pod) to (core.ConfigMap): unknown conversion"),
        (
            "Foo",
            "v1",
            "no kind \"Foo\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            "ConfigMap",
            "v2",
            "no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
    ];
    for (kind, version, why) in kinds {
        let body = json!({"kind": kind, "apiVersion": version, "metadata": {"name": "a"}}).to_string();
        check(&body, &format!("{kind} in version {version:?} cannot be handled as a ConfigMap: {why}")).await;
    }
    // Whoever sends what is gone, with its uid, means that one.
    let mut gone = server.post(CONFIG_MAPS, &config_map("gone")).await.ok();
    let path = format!("{CONFIG_MAPS}/gone");
    server.delete(&path, "").await.ok();
    let uid = gone["metadata"]["uid"].as_str().unwrap().to_owned();
    let (code, _, message) = server.put(&path, &gone).await.failure();
    assert_eq!(code, 409);
    let expected = format!(
        "Operation cannot be fulfilled on configmaps \"gone\": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/gone, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: "
    );
    assert_eq!(message, expected);
    gone["metadata"].as_object_mut().unwrap().remove("uid");
    assert_eq!(server.put(&path, &gone).await.code, 404);
    assert_eq!(server.put(&format!("{CONFIG_MAPS}/other"), &gone).await.code, 400);
}
