//! An extension API server: speaks HTTPS, knows the front proxy by its certificate, and serves `widgets`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;

pub const GROUP: &str = "metrics.example.com";

type Body = BoxBody<Bytes, Infallible>;

/// A request as it arrived.
#[derive(Clone)]
pub struct Arrived {
    /// Common name of the certificate that it came with.
    pub from: String,
    pub path: String,
    pub headers: HeaderMap,
}

struct Inner {
    arrived: Mutex<Vec<Arrived>>,
    broken: AtomicBool,
    /// Knows no OpenAPI v3.
    old: AtomicBool,
    events: broadcast::Sender<Value>,
}

pub struct Extension {
    pub port: u16,
    authority: String,
    inner: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Extension {
    /// Lets in only those whose certificates `front_proxies` has signed: the PEM text that the cluster publishes.
    pub async fn start(front_proxies: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let authority = pki::Authority::ensure(files.path(), "extension", "extension").unwrap();
        let issued = authority
            .issue(&pki::Leaf {
                common_name: "metrics".to_owned(),
                dns_names: vec!["metrics.default.svc".to_owned()],
                server: true,
                ..pki::Leaf::default()
            })
            .unwrap();
        let chain =
            CertificateDer::pem_slice_iter(issued.certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for known in CertificateDer::pem_slice_iter(front_proxies.as_bytes()) {
            roots.add(known.unwrap()).unwrap();
        }
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner {
            arrived: Mutex::default(),
            broken: AtomicBool::new(false),
            old: AtomicBool::new(false),
            events: broadcast::Sender::new(16),
        });
        let shared = inner.clone();
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(socket, acceptor.clone(), shared.clone()));
            }
        });
        Self { port, authority: authority.certificate().to_owned(), inner, serving }
    }

    /// The APIService that leads to the Service `metrics` in `default`.
    pub fn api_service(&self, version: &str, trust: Value) -> Value {
        let mut spec = json!({
            "group": GROUP, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"namespace": "default", "name": "metrics", "port": self.port},
        });
        for (key, value) in trust.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({"metadata": {"name": format!("{version}.{GROUP}")}, "spec": spec})
    }

    /// From now on it has no OpenAPI v3.
    pub fn grow_old(&self) {
        self.inner.old.store(true, Ordering::Release);
    }

    pub fn bundle(&self) -> Value {
        json!({"caBundle": STANDARD.encode(&self.authority)})
    }

    /// From now on all that it answers is 500.
    pub fn break_down(&self, broken: bool) {
        self.inner.broken.store(broken, Ordering::Release);
    }

    /// Told to everyone who watches.
    pub fn tell(&self, event: Value) {
        self.inner.events.send(event).unwrap();
    }

    /// The last request whose path contains this.
    pub fn last(&self, path: &str) -> Arrived {
        let arrived = self.inner.arrived.lock();
        arrived.iter().rev().find(|arrived| arrived.path.contains(path)).expect("a request").clone()
    }

    /// The address by which other machines reach this one; none without a network.
    pub fn address() -> Option<IpAddr> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    }
}

async fn connection(socket: tokio::net::TcpStream, acceptor: TlsAcceptor, inner: Arc<Inner>) {
    let Ok(stream) = acceptor.accept(socket).await else { return };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificates[0]).unwrap();
    let from = certificate.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
    let service = service_fn(move |request: Request<Incoming>| {
        let (inner, from) = (inner.clone(), from.clone());
        async move { Ok::<_, Infallible>(answer(&inner, from, request)) }
    });
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn full(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    *answer.status_mut() = code.try_into().unwrap();
    answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
    answer
}

fn answer(inner: &Arc<Inner>, from: String, mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let headers = request.headers().clone();
    inner.arrived.lock().push(Arrived { from, path: path.clone(), headers: headers.clone() });
    if inner.broken.load(Ordering::Acquire) {
        return full(500, "out of order");
    }
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    if headers.contains_key("upgrade") {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { echo(upgraded.await.unwrap()).await });
        let mut answer = full(101, "");
        answer.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        answer.headers_mut().insert("upgrade", headers["upgrade"].clone());
        return answer;
    }
    let versions: Vec<&str> = vec!["v1", "v1beta1"];
    if let Some(version) = versions.iter().find(|version| path == format!("/apis/{GROUP}/{version}")) {
        return full(200, resources(version).to_string());
    }
    match path {
        "/openapi/v2" => {
            let mut answer = full(200, openapi_v2().to_string());
            answer.headers_mut().insert("etag", "\"1\"".parse().unwrap());
            answer
        }
        "/openapi/v3" if inner.old.load(Ordering::Acquire) => full(404, ""),
        "/openapi/v3" => {
            let of = |version: &str| json!({"serverRelativeURL": format!("/openapi/v3/apis/{GROUP}/{version}?hash=1")});
            full(
                200,
                json!({"paths": {format!("apis/{GROUP}/v1"): of("v1"), "version": of("x")}}).to_string(),
            )
        }
        "/openapi/v3/apis/metrics.example.com/v1" => {
            full(200, json!({"openapi": "3.0.0", "theirs": true}).to_string())
        }
        _ if path.ends_with("/moved") => {
            let mut answer = full(302, "");
            answer.headers_mut().insert("location", "https://elsewhere.example".parse().unwrap());
            answer
        }
        _ if query.contains("watch=true") => {
            let events = inner.events.subscribe();
            let lines = stream::unfold(events, |mut events| async {
                let event = events.recv().await.ok()?;
                Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), events))
            });
            let mut answer = Response::new(StreamBody::new(lines).boxed());
            answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
            answer
        }
        _ => {
            let list = json!({"kind": "WidgetList", "apiVersion": format!("{GROUP}/v1"), "items": []});
            full(200, list.to_string())
        }
    }
}

async fn echo(stream: hyper::upgrade::Upgraded) {
    let mut stream = TokioIo::new(stream);
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        let said = bytes[..count].to_ascii_uppercase();
        if stream.write_all(&said).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn resources(version: &str) -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{version}"), "resources": [
        {"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget", "shortNames": ["wd"],
         "verbs": ["create", "get", "list", "watch"]},
        {"name": "widgets/console", "singularName": "", "namespaced": true, "kind": "Widget", "verbs": ["create", "get"]},
    ]})
}

fn openapi_v2() -> Value {
    json!({
        "swagger": "2.0",
        "paths": {format!("/apis/{GROUP}/v1/widgets"): {"get": {"responses": {"200": {
            "description": "OK", "schema": {"$ref": "#/definitions/com.example.Widget"}}}}}},
        "definitions": {"com.example.Widget": {"type": "object", "description": "A widget.",
            "x-kubernetes-group-version-kind": [{"group": GROUP, "version": "v1", "kind": "Widget"}]}},
    })
}
