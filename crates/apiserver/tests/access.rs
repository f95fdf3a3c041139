//! Who may do what, through the whole server: authorization, tokens, admission and allocation with the store and
//! the watch cache behind them.

use std::net::{IpAddr, Ipv4Addr};

use apiserver::{ApiServer, Config, UserInfo};
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::Service;

/// A server over a store of its own.
struct Cluster {
    server: ApiServer,
    _directory: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let pki = directory.path().join("pki");
        pki::Cluster::ensure(
            &pki,
            pki::Names {
                cluster: "test".to_owned(),
                server: "https://127.0.0.1:6443".to_owned(),
                domain: "cluster.local".to_owned(),
                addresses: vec![local],
                hostnames: vec!["localhost".to_owned()],
            },
        )
        .expect("certificates");
        let config = Config { service_cidr: "10.96.0.0/24".to_owned(), ..Config::local(&pki, 6443) };
        let store = store::Store::open(&directory.path().join("state.redb"), store::Options::default())
            .expect("a store");
        let server = ApiServer::start(config, store).await.expect("started");
        let cluster = Self { server, _directory: directory };
        cluster
            .made("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}}))
            .await;
        cluster
    }

    async fn call(&self, user: &UserInfo, method: &str, uri: &str, body: Option<Value>) -> (u16, Value) {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(bytes))
            .expect("a request");
        let response = match self.server.service(user.clone()).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Creates as the administrator, who may.
    async fn made(&self, uri: &str, object: Value) -> Value {
        let (code, body) = self.call(&admin(), "POST", uri, Some(object)).await;
        assert_eq!(code, 201, "{body}");
        body
    }

    async fn code(&self, user: &UserInfo, method: &str, uri: &str, body: Option<Value>) -> u16 {
        self.call(user, method, uri, body).await.0
    }
}

fn admin() -> UserInfo {
    UserInfo::authenticated("admin", &["system:masters"])
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": spec});
    if pod["spec"]["containers"].is_null() {
        pod["spec"]["containers"] = json!([{"name": "c", "image": "busybox"}]);
    }
    pod
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

fn role(name: &str, groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"metadata": {"name": name}, "rules": [{"apiGroups": groups, "resources": resources, "verbs": verbs}]})
}

#[tokio::test]
async fn a_binding_counts_from_the_next_request_on() {
    let cluster = Cluster::start().await;
    let alice = UserInfo::authenticated("alice", &[]);
    let (code, refusal) = cluster.call(&alice, "GET", PODS, None).await;
    assert_eq!(code, 403);
    assert_eq!(
        refusal["message"],
        "pods is forbidden: User \"alice\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    cluster.made(&format!("{RBAC}/roles"), role("read", &[""], &["pods"], &["list"])).await;
    cluster.made(&format!("{RBAC}/rolebindings"), binding("alice", "read", "alice")).await;
    assert_eq!(cluster.code(&alice, "GET", PODS, None).await, 200);
    assert_eq!(cluster.code(&alice, "GET", "/api/v1/namespaces/kube-system/pods", None).await, 403);
    assert_eq!(cluster.code(&alice, "GET", "/api/v1/pods", None).await, 403);
    assert_eq!(cluster.code(&admin(), "DELETE", &format!("{RBAC}/rolebindings/alice"), None).await, 200);
    assert_eq!(cluster.code(&alice, "GET", PODS, None).await, 403);
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let cluster = Cluster::start().await;
    let bob = UserInfo::authenticated("bob", &[]);
    let rbac = "rbac.authorization.k8s.io";
    cluster.made(&format!("{RBAC}/roles"), role("manage", &[rbac], &["roles", "rolebindings"], &["*"])).await;
    cluster.made(&format!("{RBAC}/roles"), role("read", &[""], &["pods"], &["get"])).await;
    cluster.made(&format!("{RBAC}/rolebindings"), binding("bob", "read", "bob")).await;
    // `*` holds escalate and bind too, so it is spelled out.
    let manage = role("manage", &[rbac], &["roles", "rolebindings"], &["create", "update", "get"]);
    assert_eq!(cluster.code(&admin(), "PUT", &format!("{RBAC}/roles/manage"), Some(manage)).await, 200);
    cluster.made(&format!("{RBAC}/rolebindings"), binding("bob2", "manage", "bob")).await;

    let roles = format!("{RBAC}/roles");
    let own = role("own", &[""], &["pods"], &["get"]);
    assert_eq!(cluster.code(&bob, "POST", &roles, Some(own)).await, 201);
    let (code, refusal) =
        cluster.call(&bob, "POST", &roles, Some(role("more", &[""], &["secrets"], &["get"]))).await;
    assert_eq!(code, 403);
    let message = refusal["message"].as_str().unwrap_or_default();
    assert!(message.contains(r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#), "{message}");

    cluster.made(&roles, role("secrets", &[""], &["secrets"], &["get"])).await;
    let bindings = format!("{RBAC}/rolebindings");
    assert_eq!(cluster.code(&bob, "POST", &bindings, Some(binding("x", "secrets", "bob"))).await, 403);
    assert_eq!(cluster.code(&bob, "POST", &bindings, Some(binding("y", "read", "carol"))).await, 201);
}

#[tokio::test]
async fn tokens_live_as_long_as_what_they_are_bound_to() {
    let cluster = Cluster::start().await;
    cluster.made("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "web"}})).await;
    let created = cluster.made(PODS, pod("web", json!({"serviceAccountName": "web"}))).await;
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": created["metadata"]["uid"]});
    let granted = cluster
        .made(
            "/api/v1/namespaces/default/serviceaccounts/web/token",
            json!({"spec": {"boundObjectRef": bound}}),
        )
        .await;
    let review = json!({"spec": {"token": granted["status"]["token"]}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let reviewed = cluster.made(reviews, review.clone()).await;
    assert_eq!(reviewed["status"]["user"]["username"], "system:serviceaccount:default:web");
    assert_eq!(reviewed["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["web"]));

    let gone = cluster.code(&admin(), "DELETE", &format!("{PODS}/web?gracePeriodSeconds=0"), None).await;
    assert_eq!(gone, 200);
    let reviewed = cluster.made(reviews, review).await;
    assert_eq!(reviewed["status"]["authenticated"], Value::Null, "{reviewed}");
    let error = reviewed["status"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("does not exist"), "{error}");
}

#[tokio::test]
async fn nodes_see_what_their_pods_need() {
    let cluster = Cluster::start().await;
    let node = UserInfo::authenticated("system:node:n1", &["system:nodes"]);
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["mine", "other"] {
        cluster.made(secrets, json!({"metadata": {"name": name}})).await;
    }
    assert_eq!(cluster.code(&node, "GET", &format!("{secrets}/mine"), None).await, 403);
    let volumes = json!([{"name": "v", "secret": {"secretName": "mine"}}]);
    cluster.made(PODS, pod("p", json!({"nodeName": "n1", "volumes": volumes}))).await;
    assert_eq!(cluster.code(&node, "GET", &format!("{secrets}/mine"), None).await, 200);
    assert_eq!(cluster.code(&node, "GET", &format!("{secrets}/other"), None).await, 403);
    assert_eq!(cluster.code(&node, "GET", secrets, None).await, 403);
    let pods = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1";
    assert_eq!(cluster.code(&node, "GET", pods, None).await, 200);
    assert_eq!(cluster.code(&node, "GET", "/api/v1/pods", None).await, 403);
    let foreign = json!({"metadata": {"name": "n2"}});
    assert_eq!(cluster.code(&node, "POST", "/api/v1/nodes", Some(foreign)).await, 403);
    let own = json!({"metadata": {"name": "n1"}});
    assert_eq!(cluster.code(&node, "POST", "/api/v1/nodes", Some(own)).await, 201);
}

#[tokio::test]
async fn no_two_services_share_an_address() {
    let cluster = Cluster::start().await;
    let service = |name: String| json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let user = admin();
    let made = futures::future::join_all((0..60).map(|n| {
        let service = service(format!("s{n}"));
        cluster.call(&user, "POST", SERVICES, Some(service))
    }))
    .await;
    let mut taken: Vec<(Value, Value)> = made
        .into_iter()
        .map(|(code, body)| {
            assert_eq!(code, 201, "{body}");
            (body["spec"]["clusterIP"].clone(), body["spec"]["ports"][0]["nodePort"].clone())
        })
        .collect();
    let unique = |values: Vec<&Value>| {
        let mut texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        texts.dedup();
        texts.len()
    };
    assert_eq!(unique(taken.iter().map(|(address, _)| address).collect()), 60);
    assert_eq!(unique(taken.iter().map(|(_, port)| port).collect()), 60);

    // A dry run takes nothing, a deletion gives back.
    let (address, port) = taken.remove(0);
    let wish = json!({"metadata": {"name": "wish"},
                      "spec": {"type": "NodePort", "clusterIP": address, "ports": [{"port": 80, "nodePort": port}]}});
    assert_eq!(cluster.code(&user, "POST", SERVICES, Some(wish.clone())).await, 422);
    assert_eq!(cluster.code(&user, "DELETE", &format!("{SERVICES}/s0"), None).await, 200);
    let dry = format!("{SERVICES}?dryRun=All");
    assert_eq!(cluster.code(&user, "POST", &dry, Some(wish.clone())).await, 201);
    assert_eq!(cluster.code(&user, "POST", SERVICES, Some(wish)).await, 201);
}

#[tokio::test]
async fn a_quota_is_never_exceeded() {
    let cluster = Cluster::start().await;
    let user = admin();
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5", "count/configmaps": "2"}}});
    cluster.made(quotas, quota).await;
    let answers = futures::future::join_all(
        (0..20).map(|n| cluster.call(&user, "POST", PODS, Some(pod(&format!("p{n}"), json!({}))))),
    )
    .await;
    let refused: Vec<&Value> =
        answers.iter().filter(|(code, _)| *code == 403).map(|(_, body)| &body["message"]).collect();
    assert_eq!(answers.iter().filter(|(code, _)| *code == 201).count(), 5);
    assert_eq!(refused.len(), 15);
    let message = refused[0].as_str().unwrap_or_default();
    assert!(
        message.ends_with("exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5"),
        "{message}"
    );

    let made = answers.iter().position(|(code, _)| *code == 201).expect("one was made");
    let gone = format!("{PODS}/p{made}?gracePeriodSeconds=0");
    assert_eq!(cluster.code(&user, "DELETE", &gone, None).await, 200);
    assert_eq!(cluster.code(&user, "POST", PODS, Some(pod("again", json!({})))).await, 201);
    assert_eq!(cluster.code(&user, "POST", PODS, Some(pod("more", json!({})))).await, 403);

    let maps = "/api/v1/namespaces/default/configmaps";
    for (name, code) in [("a", 201), ("b", 201), ("c", 403)] {
        let map = json!({"metadata": {"name": name}});
        assert_eq!(cluster.code(&user, "POST", maps, Some(map)).await, code, "{name}");
    }
    // Made and deleted again at once: it is not counted as being on its way.
    assert_eq!(cluster.code(&user, "DELETE", &format!("{maps}/a"), None).await, 200);
    let map = json!({"metadata": {"name": "c"}});
    assert_eq!(cluster.code(&user, "POST", maps, Some(map)).await, 201);
}

#[tokio::test]
async fn namespaces_come_first() {
    let cluster = Cluster::start().await;
    let user = admin();
    let map = json!({"metadata": {"name": "x"}});
    let (code, refusal) =
        cluster.call(&user, "POST", "/api/v1/namespaces/nowhere/configmaps", Some(map)).await;
    assert_eq!((code, &refusal["message"]), (404, &json!("namespaces \"nowhere\" not found")));
    let (code, refusal) = cluster.call(&user, "DELETE", "/api/v1/namespaces/kube-system", None).await;
    assert_eq!(code, 403);
    assert_eq!(
        refusal["message"],
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
}
