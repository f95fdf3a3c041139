//! Watches: order, selection, resuming, bookmarks, ends.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use apiserver::server::body::ResponseBody;

use crate::fixture::*;

/// The lines of a watch.
pub struct Watch {
    body: ResponseBody,
    lines: VecDeque<Value>,
    rest: Vec<u8>,
}

impl Watch {
    pub async fn open(server: &Server, path: &str) -> Self {
        Self::open_as(server, path, "application/json").await
    }

    async fn open_as(server: &Server, path: &str, accept: &str) -> Self {
        let mut request = request(Method::GET, path, "", "");
        request.headers_mut().insert("accept", accept.parse().unwrap());
        let answer = server.open(request).await;
        assert_eq!(answer.status(), 200);
        Self { body: answer.into_body(), lines: VecDeque::new(), rest: Vec::new() }
    }

    /// The next event; `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            let frame = pin!(&mut self.body).frame().await?.unwrap();
            self.rest.extend_from_slice(frame.data_ref().unwrap());
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                self.lines.push_back(serde_json::from_slice(&line).unwrap());
            }
        }
    }

    async fn told(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }

    async fn expect(&mut self, kind: &str, name: &str) {
        assert_eq!(self.told().await, (kind.to_owned(), name.to_owned()));
    }
}

#[tokio::test]
async fn a_watch_tells_what_is_and_what_happens() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let mut watch = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=true")).await;
    watch.expect("ADDED", "a").await;
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    server.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &json!({"data": {"a": "2"}})).await.ok();
    server.post("/api/v1/namespaces/kube-system/configmaps", &config_map("elsewhere")).await.ok();
    let before = server.get(&format!("{CONFIG_MAPS}/a")).await.ok();
    server.delete(&format!("{CONFIG_MAPS}/a"), "").await.ok();
    watch.expect("ADDED", "b").await;
    watch.expect("MODIFIED", "a").await;
    let deleted = watch.next().await.unwrap();
    assert_eq!((&deleted["type"], &deleted["object"]["data"]), (&json!("DELETED"), &before["data"]));
    let version =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(version(&deleted["object"]) > version(&before));
    // The old way to say it.
    let mut watch = Watch::open(&server, "/api/v1/watch/namespaces/default/configmaps").await;
    watch.expect("ADDED", "b").await;
}

#[tokio::test]
async fn a_watch_goes_on_from_a_version() {
    let server = Server::start().await;
    let first = server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    server.delete(&format!("{CONFIG_MAPS}/a"), "").await.ok();
    let mut watch = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await;
    watch.expect("ADDED", "b").await;
    watch.expect("DELETED", "a").await;
    let future = server.get(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=999999")).await;
    assert_eq!(future.failure().0, 504);
}

#[tokio::test]
async fn selected_objects_come_and_go() {
    let server = Server::start().await;
    let mut watch = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1&labelSelector=on")).await;
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let label = async |value: Value| {
        let patch = json!({"metadata": {"labels": {"on": value}}});
        server.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &patch).await.ok()
    };
    label(json!("1")).await;
    label(json!("2")).await;
    let off = label(Value::Null).await;
    label(json!("3")).await;
    watch.expect("ADDED", "a").await;
    watch.expect("MODIFIED", "a").await;
    let gone = watch.next().await.unwrap();
    assert_eq!(
        (&gone["type"], &gone["object"]["metadata"]["labels"]["on"]),
        (&json!("DELETED"), &json!("2"))
    );
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], off["metadata"]["resourceVersion"]);
    watch.expect("ADDED", "a").await;
    let mut one =
        Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Db")).await;
    server.post(CONFIG_MAPS, &config_map("c")).await.ok();
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    one.expect("ADDED", "b").await;
}

#[tokio::test]
async fn a_watch_list_says_when_it_is_complete() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Watch::open(&server, &format!("{CONFIG_MAPS}?{query}")).await;
    watch.expect("ADDED", "a").await;
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let version = bookmark["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(server.api.state().caches.applied() >= version, "a version that is not reached yet: {version}");
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    watch.expect("ADDED", "b").await;
}

#[tokio::test]
async fn quiet_watches_get_bookmarks_and_end_in_time() {
    let server = Server::start().await;
    let query = "watch=1&allowWatchBookmarks=true&timeoutSeconds=130";
    let mut watch = Watch::open(&server, &format!("{CONFIG_MAPS}?{query}")).await;
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await.ok();
    let mut reached = server.api.state().caches.applied();
    // Only now: paused time runs ahead while the thread of the store works.
    tokio::time::pause();
    for _ in 0..3 {
        let bookmark = watch.next().await.unwrap();
        assert_eq!(bookmark["type"], "BOOKMARK");
        // Nothing has happened to this resource, but to others; the server itself may write more of them.
        let version = bookmark["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(version >= reached, "{version} is before {reached}");
        reached = version;
    }
    assert_eq!(watch.next().await, None);
    let mut silent = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=500")).await;
    assert_eq!(silent.next().await, None);
}

#[tokio::test]
async fn tables_are_watched_too() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut watch = Watch::open_as(&server, &format!("{CONFIG_MAPS}?watch=1"), accept).await;
    let first = watch.next().await.unwrap();
    assert_eq!(
        (&first["object"]["kind"], &first["object"]["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert_eq!(second["object"]["columnDefinitions"].as_array().map_or(0, Vec::len), 0);
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_is_told_so_and_others_go_on() {
    let server = Server::start().await;
    let mut slow = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1")).await;
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    slow.expect("ADDED", "a").await;
    let big = "x".repeat(500_000);
    for count in 0..80 {
        let patch = json!({"data": {"a": format!("{count}{big}")}});
        server.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &patch).await.ok();
    }
    let mut quick = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1")).await;
    quick.expect("ADDED", "a").await;
    let told = slow.next().await.unwrap();
    assert_eq!((&told["type"], &told["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn those_who_watch_the_same_are_told_the_same() {
    let server = Server::start().await;
    let query = "watch=1&labelSelector=on&allowWatchBookmarks=true";
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(Watch::open(&server, &format!("{CONFIG_MAPS}?{query}")).await);
    }
    // Whoever selects otherwise is told otherwise.
    let mut other = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1&labelSelector=!on")).await;
    let label = async |name: &str, value: Value| {
        let patch = json!({"metadata": {"labels": {"on": value}}});
        server.patch(&format!("{CONFIG_MAPS}/{name}"), "merge-patch+json", &patch).await.ok()
    };
    for round in 0..50 {
        let name = format!("m{round}");
        server.post(CONFIG_MAPS, &config_map(&name)).await.ok();
        label(&name, json!("1")).await;
        // One of them keeps up, the others come behind.
        watches[0].expect("ADDED", &name).await;
        label(&name, json!("2")).await;
        label(&name, Value::Null).await;
        other.expect("ADDED", &name).await;
        other.expect("DELETED", &name).await;
        other.expect("ADDED", &name).await;
        watches[0].expect("MODIFIED", &name).await;
        watches[0].expect("DELETED", &name).await;
    }
    for watch in &mut watches[1..] {
        for round in 0..50 {
            for kind in ["ADDED", "MODIFIED", "DELETED"] {
                watch.expect(kind, &format!("m{round}")).await;
            }
        }
    }
}

#[tokio::test]
async fn forgetting_history_disturbs_no_watch() {
    let server = Server::start().await;
    let first = server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await;
    for number in 0..5 {
        server.post("/api/v1/namespaces", &json!({"metadata": {"name": format!("n{number}")}})).await.ok();
    }
    let exact = format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(server.get(&exact).await.ok()["items"].as_array().unwrap().len(), 1);
    let store = &server.api.state().store;
    store.compact(store.revision()).await.unwrap();
    let (code, reason, message) = server.get(&exact).await.failure();
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    assert!(message.starts_with(&format!("too old resource version: {version} (")), "{message}");
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    watch.expect("ADDED", "b").await;
    let mut late = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await;
    late.expect("ADDED", "b").await;
}

#[tokio::test]
async fn the_server_forgets_history_by_itself() {
    let server = Server::start().await;
    let first = server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    server.post(CONFIG_MAPS, &config_map("b")).await.ok();
    let exact = format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    server.get(&exact).await.ok();
    // Only now: paused time runs ahead while the thread of the store works, and what it works on may be done later.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(601)).await;
    tokio::time::resume();
    let forgotten = async { while server.get(&exact).await.code != 410 {} };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.unwrap();
}
