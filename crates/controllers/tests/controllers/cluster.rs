//! A control plane in the test's process: an API server in memory, all controllers, and nodes that only pretend.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, UserInfo};
use bytes::Bytes;
use client::Informers;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{Either, Full};
use kube::client::Body;
use kube::core::WatchEvent;
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::Store;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::node;

/// So long may something take that is not meant to wait. Reaching it fails the test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Paths of metrics APIs, and what they answer.
pub type Answers = Arc<Mutex<HashMap<String, Value>>>;

pub struct Cluster {
    /// What the extension servers for metrics would say to the controllers.
    pub metrics: Answers,
    pub client: kube::Client,
    api: ApiServer,
    _files: TempDir,
    stop: CancellationToken,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cluster {
    /// A control plane whose pods run, as far as anyone can tell: see [`node::play`].
    pub async fn start() -> Self {
        let cluster = Self::without_nodes().await;
        tokio::spawn(node::play(cluster.client_of("node", &["system:masters"]), cluster.stop.clone()));
        cluster
    }

    /// One in which nothing happens to pods unless the test does it.
    pub async fn without_nodes() -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
        let files = tempfile::tempdir().unwrap();
        let pki = files.path();
        let advertise = IpAddr::from([192, 0, 2, 1]);
        let names = pki::Names {
            cluster: "test".to_owned(),
            server: "https://192.0.2.1:6443".to_owned(),
            domain: "cluster.local".to_owned(),
            addresses: vec![advertise],
            hostnames: Vec::new(),
        };
        let keys = pki::Cluster::ensure(pki, names).unwrap();
        let config = apiserver::Config {
            service_cidr: "10.96.0.0/16".to_owned(),
            ..apiserver::Config::from_pki(pki, advertise, 6443)
        };
        let api = ApiServer::start(config, Store::in_memory().unwrap()).await.unwrap();
        let read = |name: &str| std::fs::read_to_string(pki.join(name)).unwrap();
        let config = controllers::Config {
            controllers: controllers::Selection::default(),
            allocate_node_cidrs: true,
            terminated_pod_gc_threshold: Some(controllers::Config::TERMINATED_POD_GC_THRESHOLD),
            cluster_cidr: "10.244.0.0/16".to_owned(),
            node_cidr_mask_size_ipv4: controllers::Config::NODE_CIDR_MASK_SIZE_IPV4,
            node_cidr_mask_size_ipv6: controllers::Config::NODE_CIDR_MASK_SIZE_IPV6,
            root_ca_pem: keys.authority().to_owned(),
            node_monitor_grace_period: controllers::Config::NODE_MONITOR_GRACE_PERIOD,
            metrics: controllers::Metrics::default(),
            cluster_signing: Some(controllers::ClusterSigning {
                certificate_pem: read("ca.crt"),
                key_pem: read("ca.key"),
            }),
        };
        let stop = CancellationToken::new();
        let metrics = Answers::default();
        let user = UserInfo::authenticated("system:kube-controller-manager", &["system:masters"]);
        let (asked, answers) = (api.clone(), metrics.clone());
        let controlling = tower::service_fn(move |request: Request<Body>| {
            let known = answers.lock().get(request.uri().path()).map(Value::to_string);
            let service = asked.service(user.clone());
            async move {
                match known {
                    Some(text) => Ok(Response::new(Either::Left(Full::new(Bytes::from(text))))),
                    None => service.oneshot(request).await.map(|answer| answer.map(Either::Right)),
                }
            }
        });
        let manager = client::in_process(controlling, "kube-controller-manager");
        tokio::spawn(controllers::run(Informers::new(manager), config, stop.clone()));
        let client =
            client::in_process(api.service(UserInfo::authenticated("admin", &["system:masters"])), "test");
        let cluster = Self { metrics, client, api, _files: files, stop };
        // The API server admits pods of accounts that exist only.
        cluster.until("/api/v1/namespaces/default/serviceaccounts/default", |_| true).await;
        cluster
    }

    pub fn client_of(&self, user: &str, groups: &[&str]) -> kube::Client {
        client::in_process(self.api.service(UserInfo::authenticated(user, groups)), "test")
    }

    /// A namespace with the account that pods in it run as.
    pub async fn namespace(&self, name: &str) -> String {
        self.post("/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
        self.until(&format!("/api/v1/namespaces/{name}/serviceaccounts/default"), |_| true).await;
        name.to_owned()
    }

    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request =
            Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap();
        self.client.request(request).await
    }

    #[track_caller]
    fn ok(what: &str, result: Result<Value, kube::Error>) -> Value {
        result.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    pub async fn get(&self, path: &str) -> Value {
        Self::ok(path, self.try_send(Method::GET, path, "", &Value::Null).await)
    }

    pub async fn find(&self, path: &str) -> Option<Value> {
        self.try_send(Method::GET, path, "", &Value::Null).await.ok()
    }

    pub async fn items(&self, path: &str) -> Vec<Value> {
        self.get(path).await["items"].as_array().cloned().unwrap_or_default()
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        Self::ok(path, self.try_send(Method::POST, path, "application/json", &body).await)
    }

    pub async fn put(&self, path: &str, body: Value) -> Value {
        Self::ok(path, self.try_send(Method::PUT, path, "application/json", &body).await)
    }

    /// A merge patch.
    pub async fn patch(&self, path: &str, body: Value) -> Value {
        Self::ok(path, self.try_send(Method::PATCH, path, "application/merge-patch+json", &body).await)
    }

    /// One that merges lists of named things.
    pub async fn strategic(&self, path: &str, body: Value) -> Value {
        let kind = "application/strategic-merge-patch+json";
        Self::ok(path, self.try_send(Method::PATCH, path, kind, &body).await)
    }

    pub async fn delete(&self, path: &str) {
        self.delete_with(path, Value::Null).await;
    }

    pub async fn delete_with(&self, path: &str, options: Value) {
        Self::ok(path, self.try_send(Method::DELETE, path, "application/json", &options).await);
    }

    /// Waits until the object at `path` exists and is as it should be.
    #[track_caller]
    pub fn until<'a>(
        &'a self,
        path: &'a str,
        is_so: impl Fn(&Value) -> bool + 'a,
    ) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let (collection, name) = path.rsplit_once('/').unwrap();
            let selected = format!("{collection}?fieldSelector=metadata.name%3D{name}");
            let found = self.wait(&selected, |items| items.first().is_some_and(&is_so), caller).await;
            found.into_iter().next().unwrap()
        }
    }

    /// Waits until there is nothing at `path`.
    #[track_caller]
    pub fn gone<'a>(&'a self, path: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let (collection, name) = path.rsplit_once('/').unwrap();
            self.wait(&format!("{collection}?fieldSelector=metadata.name%3D{name}"), <[_]>::is_empty, caller)
                .await;
        }
    }

    /// Waits until a collection is as it should be.
    #[track_caller]
    pub fn until_all<'a>(
        &'a self,
        path: &'a str,
        is_so: impl Fn(&[Value]) -> bool + 'a,
    ) -> impl Future<Output = Vec<Value>> + 'a {
        let caller = std::panic::Location::caller();
        async move { self.wait(path, is_so, caller).await }
    }

    async fn wait(
        &self,
        path: &str,
        is_so: impl Fn(&[Value]) -> bool,
        caller: &std::panic::Location<'_>,
    ) -> Vec<Value> {
        let mut items = Vec::new();
        let waiting = async {
            loop {
                let list = self.get(path).await;
                items = list["items"].as_array().cloned().unwrap_or_default();
                if is_so(&items) {
                    return;
                }
                let separator = if path.contains('?') { '&' } else { '?' };
                let version = list["metadata"]["resourceVersion"].as_str().unwrap();
                let uri = format!("{path}{separator}watch=1&resourceVersion={version}");
                let request = Request::get(uri).body(Vec::new()).unwrap();
                let events = self.client.request_events::<Value>(request).await.unwrap();
                tokio::pin!(events);
                while let Some(event) = events.next().await {
                    let same = |a: &Value, b: &Value| a["metadata"]["uid"] == b["metadata"]["uid"];
                    match event {
                        Ok(WatchEvent::Added(new) | WatchEvent::Modified(new)) => {
                            items.retain(|item| !same(item, &new));
                            items.push(new);
                        }
                        Ok(WatchEvent::Deleted(old)) => items.retain(|item| !same(item, &old)),
                        Ok(_) => {}
                        Err(_) => break,
                    }
                    if is_so(&items) {
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let now = serde_json::to_string_pretty(&items).unwrap_or_default();
            panic!("{caller}: {path} does not become as it should: {now}");
        }
        items
    }

    /// Waits for an event about an object.
    #[track_caller]
    pub fn event<'a>(
        &'a self,
        namespace: &'a str,
        object: &'a str,
        reason: &'a str,
        message: &'a str,
    ) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let path =
                format!("/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3D{object}");
            let fits = |event: &Value| {
                event["reason"] == reason
                    && event["message"].as_str().is_some_and(|text| text.contains(message))
            };
            let found = self.wait(&path, |items| items.iter().any(fits), caller).await;
            found.into_iter().find(fits).unwrap()
        }
    }
}

/// The condition of this type, or null.
pub fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

pub fn names(objects: &[Value]) -> Vec<&str> {
    let mut names: Vec<_> = objects.iter().map(name).collect();
    names.sort_unstable();
    names
}
