//! A server of its own for each test, and short ways to ask it.

use std::net::IpAddr;

use apiserver::server::body::ResponseBody;
use apiserver::{ApiServer, Config, UserInfo};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use store::Store;
use tempfile::TempDir;
use tower::ServiceExt;

pub struct Server {
    pub api: ApiServer,
    pub files: TempDir,
    pub user: UserInfo,
}

pub struct Answer {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {:?}", self.bytes))
    }

    /// The object of a request that must succeed.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(self.code.is_success(), "{}: {:?}", self.code, self.bytes);
        self.json()
    }

    /// Code, reason and message of one that must fail.
    #[track_caller]
    pub fn failure(&self) -> (u16, String, String) {
        assert!(!self.code.is_success(), "{}: {:?}", self.code, self.bytes);
        let status = self.json();
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["code"], self.code.as_u16());
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        (self.code.as_u16(), text("reason"), text("message"))
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect()
    }
}

pub fn config(files: &TempDir) -> Config {
    let pki = files.path();
    let advertise = IpAddr::from([192, 0, 2, 1]);
    pki::Cluster::ensure(
        pki,
        pki::Names {
            cluster: "test".to_owned(),
            server: "https://192.0.2.1:6443".to_owned(),
            domain: "cluster.local".to_owned(),
            addresses: vec![advertise],
            hostnames: Vec::new(),
        },
    )
    .unwrap();
    Config { service_cidr: "10.96.0.0/16".to_owned(), ..Config::from_pki(pki, advertise, 6443) }
}

impl Server {
    pub async fn start() -> Self {
        Self::on(Store::in_memory().unwrap()).await
    }

    pub async fn on(store: Store) -> Self {
        Self::at(IpAddr::from([192, 0, 2, 1]), store).await
    }

    pub async fn at(advertise: IpAddr, store: Store) -> Self {
        Self::with_store(store, |config| Config { advertise, ..config }).await
    }

    /// With another configuration.
    pub async fn with(change: impl FnOnce(Config) -> Config) -> Self {
        Self::with_store(Store::in_memory().unwrap(), change).await
    }

    pub async fn with_store(store: Store, change: impl FnOnce(Config) -> Config) -> Self {
        let files = tempfile::tempdir().unwrap();
        let config = change(config(&files));
        let api = ApiServer::start(config, store).await.unwrap();
        let user = UserInfo::authenticated("test", &["system:masters"]);
        Self { api, files, user }
    }

    /// The body as it comes, for watches.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> http::Response<ResponseBody> {
        self.api.service(self.user.clone()).oneshot(request).await.unwrap()
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.open(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status, headers: parts.headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, "", "")).await
    }

    /// Waits until the collection at `path` is served: definitions of resources take effect after they are written.
    pub async fn served(&self, path: &str) {
        while self.get(path).await.code == StatusCode::NOT_FOUND {
            tokio::task::yield_now().await;
        }
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Answer {
        let mut request = request(Method::GET, path, "", "");
        request.headers_mut().insert("accept", accept.parse().unwrap());
        self.send(request).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(request(Method::POST, path, "application/json", &body.to_string())).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(request(Method::PUT, path, "application/json", &body.to_string())).await
    }

    /// `kind` is `json-patch+json`, `merge-patch+json`, `strategic-merge-patch+json` or `apply-patch+yaml`.
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        self.send(request(Method::PATCH, path, &format!("application/{kind}"), &body.to_string())).await
    }

    pub async fn delete(&self, path: &str, body: &str) -> Answer {
        self.send(request(Method::DELETE, path, "application/json", body)).await
    }
}

pub fn request(method: Method, path: &str, content_type: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("user-agent", "tester/1.0".parse().unwrap());
    if !content_type.is_empty() {
        headers.insert("content-type", content_type.parse().unwrap());
    }
    request
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";

pub fn config_map(name: &str) -> Value {
    serde_json::json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

/// A pod that asks for nothing, so that no plugin waits for a service account.
pub fn pod(name: &str) -> Value {
    serde_json::json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    })
}

/// Pods need one to be admitted.
pub async fn with_service_account() -> Server {
    let server = Server::start().await;
    let account = serde_json::json!({"metadata": {"name": "default"}});
    server.post("/api/v1/namespaces/default/serviceaccounts", &account).await.ok();
    server
}
