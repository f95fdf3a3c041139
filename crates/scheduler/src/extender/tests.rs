//! Calls to a live HTTP server that answers as an extender does.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What was asked: path and body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// Starts a server that answers these paths, and forgets to answer others.
async fn serve(answers: &[(&str, Value)]) -> (String, Asked) {
    let answers: Arc<BTreeMap<String, Value>> =
        Arc::new(answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/scheduler", listener.local_addr().unwrap());
    let asked = Asked::default();
    let noted = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, answers.clone(), noted.clone()));
        }
    });
    (url, asked)
}

async fn answer(mut stream: TcpStream, answers: Arc<BTreeMap<String, Value>>, asked: Asked) {
    loop {
        let mut request = Vec::new();
        let (head, length) = loop {
            let mut byte = [0];
            if stream.read_exact(&mut byte).await.is_err() {
                return;
            }
            request.push(byte[0]);
            if request.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8(request).unwrap().to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
                break (head.clone(), length.parse::<usize>().unwrap());
            }
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let verb = path.strip_prefix("/scheduler/").unwrap().to_owned();
        asked.lock().unwrap().push((verb.clone(), serde_json::from_slice(&body).unwrap()));
        let Some(answer) = answers.get(&verb) else {
            // Silence, for as long as anybody listens.
            let _ = stream.read(&mut [0]).await;
            return;
        };
        let body = answer.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }
}

fn extenders(files: &[Value]) -> Extenders {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let files: Vec<ExtenderFile> =
        files.iter().map(|file| serde_json::from_value(file.clone()).unwrap()).collect();
    Extenders::new(&files).unwrap()
}

fn nodes(names: &[&str]) -> Vec<(Arc<Node>, i64)> {
    let node = |name: &&str| {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        (Arc::new(node), 100)
    };
    names.iter().map(node).collect()
}

fn pod(uid: &str, requests: Value) -> Arc<PodInfo> {
    let pod = json!({"metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
}

#[tokio::test]
async fn extenders_filter_and_prioritize() {
    let (url, asked) = serve(&[
        ("filter", json!({"nodenames": ["a", "b"], "failedNodes": {"c": "too hot"}, "failedAndUnresolvableNodes": {"d": "gone"}, "error": ""})),
        ("prioritize", json!([{"host": "a", "score": 1}, {"host": "b", "score": 10}])),
    ])
    .await;
    let extenders = extenders(&[
        json!({"urlPrefix": url, "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 2,
        "nodeCacheCapable": true}),
    ]);
    let pod = pod("p", json!({}));
    let verdict = extenders.consult(&pod.pod, nodes(&["a", "b", "c", "d"])).await.unwrap();
    assert_eq!(verdict.nodes, [("a".to_owned(), 120), ("b".to_owned(), 300)]);
    assert_eq!(
        verdict.refused,
        [("c".to_owned(), "too hot".to_owned(), true), ("d".to_owned(), "gone".to_owned(), false)]
    );
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].1["nodenames"], json!(["a", "b", "c", "d"]));
    assert_eq!(asked[1].1["nodenames"], json!(["a", "b"]));
    assert_eq!(asked[1].1["pod"]["metadata"]["name"], "p");
}

#[tokio::test]
async fn whole_nodes_go_to_those_who_keep_none() {
    let (url, asked) = serve(&[("filter", json!({"nodes": {"items": [{"metadata": {"name": "b"}}]}}))]).await;
    let extenders = extenders(&[json!({"urlPrefix": url, "filterVerb": "filter"})]);
    let verdict = extenders.consult(&pod("p", json!({})).pod, nodes(&["a", "b"])).await.unwrap();
    assert_eq!(verdict.nodes, [("b".to_owned(), 100)]);
    assert_eq!(asked.lock().unwrap()[0].1["nodes"]["items"][1]["metadata"]["name"], "b");
}

#[tokio::test]
async fn only_ignorable_extenders_may_fail() {
    let (url, _) = serve(&[("filter", json!({"error": "no licence"}))]).await;
    let file = |verb: &str, ignorable: bool| json!({"urlPrefix": url, "filterVerb": verb, "ignorable": ignorable, "httpTimeout": "50ms"});
    let consult = |file: Value| async move {
        extenders(&[file]).consult(&pod("p", json!({})).pod, nodes(&["a"])).await
    };
    let error = consult(file("filter", false)).await.unwrap_err();
    assert!(error.to_string().contains("no licence"), "{error}");
    assert!(matches!(consult(file("silent", false)).await, Err(ExtenderError::Timeout { .. })));
    assert_eq!(consult(file("filter", true)).await.unwrap().nodes.len(), 1);
    let nobody = json!({"urlPrefix": "http://127.0.0.1:1", "filterVerb": "filter"});
    assert!(matches!(consult(nobody).await, Err(ExtenderError::Call { .. })));
}

#[tokio::test]
async fn extenders_look_after_their_resources() {
    let extenders =
        extenders(&[json!({"urlPrefix": "http://127.0.0.1:1", "filterVerb": "filter", "bindVerb": "bind",
        "managedResources": [{"name": "example.com/gpu", "ignoredByScheduler": true}]})]);
    let (with, without) = (pod("p", json!({"example.com/gpu": "1"})), pod("q", json!({"cpu": "1"})));
    assert!(extenders.want(&with.pod) && !extenders.want(&without.pod));
    assert!(extenders.binder(&with.pod).is_some() && extenders.binder(&without.pod).is_none());
    assert!(!extenders.preempt(&with.pod));
}

#[tokio::test]
async fn extenders_bind_and_agree_to_victims() {
    let (url, asked) = serve(&[
        ("bind", json!({"error": ""})),
        (
            "preempt",
            json!({"nodeNameToMetaVictims": {"b": {"pods": [{"uid": "v2"}], "numPDBViolations": 1}}}),
        ),
    ])
    .await;
    let extenders = extenders(&[
        json!({"urlPrefix": url, "bindVerb": "bind", "preemptVerb": "preempt", "nodeCacheCapable": true}),
    ]);
    let pod = pod("p", json!({}));
    extenders.binder(&pod.pod).unwrap().bind(&pod, "a").await.unwrap();
    let expected = json!({"podName": "p", "podNamespace": "ns", "podUID": "p", "node": "a"});
    assert_eq!(asked.lock().unwrap()[0], ("bind".to_owned(), expected));
    let victims = |node: &str, uids: &[&str]| Victims {
        node: node.to_owned(),
        pods: uids.iter().map(|uid| super::tests::pod(uid, json!({}))).collect(),
        violations: 0,
    };
    let agreed =
        extenders.agree(&pod, vec![victims("a", &["v1"]), victims("b", &["v2", "v3"])]).await.unwrap();
    let [agreed] = &agreed[..] else { panic!("{agreed:?}") };
    assert_eq!((agreed.node.as_str(), agreed.pods.len(), agreed.violations), ("b", 1, 1));
}
