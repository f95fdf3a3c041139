//! Lists: pages, consistency, selectors, versions, forms.

use serde_json::{Value, json};

use crate::fixture::*;

async fn with_maps(names: &[&str]) -> Server {
    let server = Server::start().await;
    for name in names {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({"first": &name[..1]});
        server.post(CONFIG_MAPS, &map).await.ok();
    }
    server
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_are_sorted_and_say_their_version() {
    let server = with_maps(&["b", "a", "c"]).await;
    let list = server.get(CONFIG_MAPS).await.ok();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(names(&list), ["a", "b", "c"]);
    let newest = server.get(&format!("{CONFIG_MAPS}/c")).await.ok();
    // The server's own parts may have written something since.
    let number =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(&list) >= number(&newest), "{list}");
    // A namespace has its own objects only, here what the server tells extension servers, and since when it notes uses of
    // tokens; all have them together.
    let own = ["extension-apiserver-authentication", "kube-apiserver-legacy-service-account-token-tracking"];
    assert_eq!(names(&server.get("/api/v1/namespaces/kube-system/configmaps").await.ok()), own);
    assert_eq!(names(&server.get("/api/v1/configmaps").await.ok()), ["a", "b", "c", own[0], own[1]]);
}

#[tokio::test]
async fn pages_are_of_one_moment() {
    let server = with_maps(&["a", "b", "c", "d", "e"]).await;
    let first = server.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    // What changes afterwards is not seen by later pages.
    server.delete(&format!("{CONFIG_MAPS}/c"), "").await.ok();
    server.post(CONFIG_MAPS, &config_map("cc")).await.ok();
    let patch = json!({"data": {"a": "new"}});
    server.patch(&format!("{CONFIG_MAPS}/d"), "merge-patch+json", &patch).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][1]["data"]["a"], "1");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = server.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&third), ["e"]);
    assert_eq!(third["metadata"]["continue"], Value::Null);
    assert_eq!(names(&server.get(CONFIG_MAPS).await.ok()), ["a", "b", "cc", "d", "e"]);
    assert_eq!(server.get(&format!("{CONFIG_MAPS}?continue=nonsense")).await.failure().0, 400);
}

#[tokio::test]
async fn an_old_page_has_expired_but_can_go_on() {
    let server = with_maps(&["a", "b", "c"]).await;
    let first = server.get(&format!("{CONFIG_MAPS}?limit=1")).await.ok();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    // More changes than are remembered.
    let big = "x".repeat(500_000);
    for count in 0..80 {
        let patch = json!({"data": {"a": format!("{count}{big}")}});
        server.patch(&format!("{CONFIG_MAPS}/c"), "merge-patch+json", &patch).await.ok();
    }
    let token = first["metadata"]["continue"].as_str().unwrap();
    let answer = server.get(&format!("{CONFIG_MAPS}?limit=9&continue={token}")).await;
    let (code, reason, _) = answer.failure();
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    let token = answer.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = server.get(&format!("{CONFIG_MAPS}?limit=9&continue={token}")).await.ok();
    assert_eq!(names(&rest), ["b", "c"]);
    let exact = format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(server.get(&exact).await.failure().0, 410);
    let watch = server.get(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await.ok();
    assert_eq!((&watch["type"], &watch["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn versions_mean_what_they_say() {
    let server = with_maps(&["a"]).await;
    let old = server.get(CONFIG_MAPS).await.ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    let exact = format!("{CONFIG_MAPS}?resourceVersion={old}&resourceVersionMatch=Exact");
    let exact = server.get(&exact).await.ok();
    assert_eq!(names(&exact), ["a"]);
    assert_eq!(exact["metadata"]["resourceVersion"], old.as_str());
    for query in [
        "resourceVersion=0",
        &format!("resourceVersion={old}"),
        &format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan"),
    ] {
        assert_eq!(names(&server.get(&format!("{CONFIG_MAPS}?{query}")).await.ok()), ["a", "b"], "{query}");
    }
    let answer = server.get(&format!("{CONFIG_MAPS}?resourceVersion=999999")).await;
    assert_eq!(answer.failure().0, 504);
    assert_eq!(answer.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn selectors_select() {
    let server = with_maps(&["aa", "ab", "ba"]).await;
    #[track_caller]
    fn check(list: Value, expected: &[&str]) {
        assert_eq!(names(&list), expected);
    }
    let list = async |query: &str| server.get(&format!("{CONFIG_MAPS}?{query}")).await;
    check(list("labelSelector=first%3Da").await.ok(), &["aa", "ab"]);
    check(list("labelSelector=first%21%3Da").await.ok(), &["ba"]);
    check(list("labelSelector=first%20in%20(a,b)&limit=2").await.ok(), &["aa", "ab"]);
    check(list("fieldSelector=metadata.name%3Dba").await.ok(), &["ba"]);
    check(list("fieldSelector=metadata.name%21%3Dba").await.ok(), &["aa", "ab"]);
    assert_eq!(list("fieldSelector=spec.nodeName%3Dx").await.failure().0, 400);
    assert_eq!(list("labelSelector=%21%21").await.failure().0, 400);

    let server = with_service_account().await;
    server.post(PODS, &pod("p")).await.ok();
    for (query, expected) in [
        ("status.phase=Pending", &["p"][..]),
        ("status.phase!=Pending", &[]),
        ("spec.nodeName=", &["p"]),
        ("spec.nodeName=n", &[]),
    ] {
        let query = query.replace('=', "%3D").replace('!', "%21");
        check(server.get(&format!("{PODS}?fieldSelector={query}")).await.ok(), expected);
    }
}

#[tokio::test]
async fn tables_and_partial_metadata() {
    let server = with_maps(&["a", "b"]).await;
    let table = server.get_as(CONFIG_MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][1]["cells"][0], "b");
    assert_eq!(table["rows"][1]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["metadata"]["resourceVersion"].is_string());
    let one =
        server.get_as(&format!("{CONFIG_MAPS}/a"), "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = server.get_as(CONFIG_MAPS, partial).await.ok();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][0]["data"], Value::Null);
    let yaml = server.get_as(&format!("{CONFIG_MAPS}/a"), "application/yaml").await;
    assert!(yaml.bytes.starts_with(b"apiVersion: v1"), "{:?}", yaml.bytes);
}

#[tokio::test]
async fn events_are_one_collection_in_two_shapes() {
    let server = Server::start().await;
    let event = json!({
        "metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "hello", "reason": "Tested", "type": "Normal", "action": "Testing",
        "reportingController": "test", "reportingInstance": "me", "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    server.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await.ok();
    let core = server.get("/api/v1/namespaces/default/events/e").await.ok();
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("hello"), &json!("p")));
    assert_eq!((&core["apiVersion"], &core["reportingComponent"]), (&json!("v1"), &json!("test")));
    let found =
        server.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp").await.ok();
    assert_eq!(names(&found), ["e"]);
    let found = server
        .get("/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.name%3Dp")
        .await
        .ok();
    assert_eq!((names(&found), &found["items"][0]["note"]), (vec!["e"], &json!("hello")));
}

/// Whatever a client makes of a token, the answer is a list or a failure that says what is wrong with it.
#[test]
fn any_token_is_answered() {
    use base64::Engine;
    use proptest::prelude::*;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(with_maps(&["a", "b", "c"]));
    let numbers = || prop_oneof![any::<i64>(), -2i64..100, Just(i64::MIN), Just(i64::MAX)];
    let token = prop_oneof![
        "[A-Za-z0-9_=%-]{0,60}",
        ("[a-z.0-9/]{0,16}", numbers(), ".{0,20}", numbers()).prop_map(|(v, rv, start, at)| {
            let version = if v.len() % 2 == 0 { "meta.k8s.io/v1" } else { &v };
            let token = json!({"v": version, "rv": rv, "start": start, "at": at}).to_string();
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token)
        }),
    ];
    proptest!(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() },
        |(token in token, limit in 0usize..4)| {
        let token: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = runtime.block_on(server.get(&format!("{CONFIG_MAPS}?limit={limit}&continue={token}")));
        prop_assert!(
            matches!(answer.code.as_u16(), 200 | 400 | 410 | 504),
            "{}: {:?}", answer.code, answer.bytes
        );
    });
}

#[tokio::test]
async fn pages_of_a_version_are_of_that_version() {
    let server = Server::start().await;
    let mut versions = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let made = server.post(CONFIG_MAPS, &config_map(name)).await.ok();
        versions.push(made["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
    }
    let names = async |query: &str| -> Vec<String> {
        let list = server.get(&format!("{CONFIG_MAPS}?{query}")).await.ok();
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let second = &versions[1];
    assert_eq!(names(&format!("resourceVersion={second}")).await, ["a", "b", "c", "d"]);
    assert_eq!(names(&format!("resourceVersion={second}&limit=5")).await, ["a", "b"]);
    assert_eq!(names(&format!("resourceVersion={second}&resourceVersionMatch=Exact")).await, ["a", "b"]);
    assert_eq!(
        names(&format!("resourceVersion={second}&resourceVersionMatch=NotOlderThan&limit=3")).await,
        ["a", "b", "c"]
    );
    assert_eq!(names("resourceVersion=0&limit=5").await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn options_that_make_no_sense_are_told_with_their_causes() {
    let server = Server::start().await;
    let check = async |path: &str, kind: &str, field: &str, reason: &str, message: &str| {
        let answer = server.get(path).await;
        let answer = if kind == "CreateOptions" { server.post(path, &config_map("x")).await } else { answer };
        let answer = if kind == "DeleteOptions" { server.delete(path, "").await } else { answer };
        assert_eq!(answer.code, 422, "{path}");
        let status = answer.json();
        assert_eq!(status["message"], format!("{kind}.meta.k8s.io \"\" is invalid: {field}: {message}"));
        let cause = json!({"field": field, "reason": reason, "message": message});
        let details = json!({"group": "meta.k8s.io", "kind": kind, "causes": [cause]});
        assert_eq!(status["details"], details);
    };
    let list = |query: &str| format!("{CONFIG_MAPS}?{query}");
    let forbidden = "FieldValueForbidden";
    let why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
    check(&list("resourceVersionMatch=Exact"), "ListOptions", "resourceVersionMatch", forbidden, why).await;
    let why = "Forbidden: sendInitialEvents is forbidden for list";
    check(&list("sendInitialEvents=true"), "ListOptions", "sendInitialEvents", forbidden, why).await;
    let why = "Unsupported value: \"Some\": supported values: \"All\"";
    check(&list("dryRun=Some"), "CreateOptions", "dryRun", "FieldValueNotSupported", why).await;
    let why =
        "Unsupported value: \"Up\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"";
    let path = format!("{CONFIG_MAPS}/a?propagationPolicy=Up");
    check(&path, "DeleteOptions", "propagationPolicy", "FieldValueNotSupported", why).await;
}

#[tokio::test]
async fn requests_that_fit_no_route() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let object = format!("{CONFIG_MAPS}/a");
    assert_eq!(server.post(&object, &config_map("a")).await.failure().0, 405);
    assert_eq!(server.put(CONFIG_MAPS, &config_map("a")).await.failure().0, 405);
    let (code, _, message) = server.put(&object, &json!({"data": {"b": "1"}})).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (400, "the name of the object (a based on URL) was undeterminable: name must be provided")
    );
}
