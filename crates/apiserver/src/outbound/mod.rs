//! Requests of this server to servers that extend it: webhooks and aggregated APIs.
//!
//! They are reached at a URL, or as a Service: then `name.namespace.svc` is what the certificate has to say, and any of
//! the ready endpoints is connected to ([`connect`]), so that nothing depends on the machine's resolver or routes.
//! Connections are kept. Every call has an end: who asks says how long it may take.

pub mod client;
mod connect;
mod inside;
mod kubeconfig;
mod trust;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde_json::Value;

use crate::admission::objects::Objects;
use crate::server::body::{RequestBody, boxed};
use connect::Connector;
pub use connect::Unreachable;
pub use inside::{Extension, Inside};
pub use trust::Identity;

/// As much of an answer is read.
const MAX_ANSWER: usize = 3 << 20;
const KEPT_FOR: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("kube-apiserver/v1.36.0 corten/", env!("CARGO_PKG_VERSION"));

/// Whose certificates are good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those that this PEM bundle signs.
    Bundle(Bytes),
    /// Those that the machine trusts.
    System,
    /// All of them.
    Anyone,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `https://host:port`
    authority: String,
    /// Put before the path of requests.
    path: String,
    pub trust: Trust,
    /// Whether this server identifies itself as a front proxy.
    pub identify: bool,
}

/// A `clientConfig` that makes no sense. Such are refused when they are written.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    #[error("either url or service has to be given")]
    Nothing,
    #[error("{0:?} is not a URL")]
    Url(String),
    #[error("the caBundle is not base64: {0}")]
    Bundle(#[from] base64::DecodeError),
}

/// A request that was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    #[error("{0}")]
    Trust(String),
    #[error("cannot be asked for: {0}")]
    Request(#[from] http::Error),
    #[error("{method} {url:?}: {}", cause(&**source))]
    Failed { method: &'static str, url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{method} {url:?}: context deadline exceeded")]
    Timeout { method: &'static str, url: String },
    #[error("{}", refusal(*code, text))]
    Refused { code: StatusCode, text: String },
}

/// What lies at the bottom: the layers above say no more than that something failed.
fn cause(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut deepest: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// As upstream's clients tell it.
fn refusal(code: StatusCode, text: &str) -> String {
    match (code.is_server_error(), text) {
        (true, "") => "the server has prevented the request from succeeding".to_owned(),
        (true, text) => {
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        }
        (false, "") => format!("the server answered {code}"),
        (false, text) => format!("the server answered {code}: {text}"),
    }
}

impl Destination {
    /// Of a webhook's `clientConfig`.
    pub fn of_client_config(config: &Value) -> Result<Self, DestinationError> {
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let trust = match bundle {
            "" => Trust::System,
            text => Trust::Bundle(STANDARD.decode(text)?.into()),
        };
        if let Some(url) = config["url"].as_str() {
            let parsed: Uri = url.parse().map_err(|_| DestinationError::Url(url.to_owned()))?;
            let authority = parsed.authority().ok_or_else(|| DestinationError::Url(url.to_owned()))?;
            let path = parsed.path().trim_end_matches('/').to_owned();
            return Ok(Self { authority: format!("https://{authority}"), path, trust, identify: false });
        }
        let service = &config["service"];
        let (Some(namespace), Some(name)) = (service["namespace"].as_str(), service["name"].as_str()) else {
            return Err(DestinationError::Nothing);
        };
        let port = service["port"].as_u64().unwrap_or(443);
        let path = service["path"].as_str().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self { path, ..Self::of_service(namespace, name, port, trust) })
    }

    /// A Service that speaks HTTPS.
    pub fn of_service(namespace: &str, name: &str, port: u64, trust: Trust) -> Self {
        let authority = format!("https://{name}.{namespace}.svc:{port}");
        Self { authority, path: String::new(), trust, identify: false }
    }

    /// Something in this process.
    pub fn of_extension(extension: &Extension) -> Self {
        let authority = format!("https://{}", extension.host());
        Self { authority, path: String::new(), trust: Trust::System, identify: false }
    }

    /// The same, for requests that this server makes as a front proxy.
    pub fn identified(self) -> Self {
        Self { identify: true, ..self }
    }

    /// The address of a path (with its query) there.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("{}{}{path_and_query}", self.authority, self.path)
    }
}

type HttpClient = Client<Connector, RequestBody>;

/// Sends requests; one for the whole server.
pub struct Outbound {
    objects: Arc<dyn Objects>,
    inside: Inside,
    identity: Option<Identity>,
    clients: Mutex<AHashMap<(Trust, bool), HttpClient>>,
}

/// Bundles change rarely; those of long ago need not be remembered.
const MAX_CLIENTS: usize = 256;

impl Outbound {
    /// `identity` are the certificate and key with which this server is a front proxy.
    pub fn new(
        objects: Arc<dyn Objects>,
        inside: Inside,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Self, OutboundError> {
        let identity = identity.map(|(certificate, key)| Identity::read(certificate, key)).transpose();
        let identity = identity.map_err(OutboundError::Trust)?;
        Ok(Self { objects, inside, identity, clients: Mutex::default() })
    }

    /// Posts JSON and returns what is answered with 200.
    pub async fn post(
        &self,
        to: &Destination,
        query: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Bytes, OutboundError> {
        let url = to.url(query);
        let request = Request::post(&url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(boxed(Full::new(Bytes::from(body))))?;
        let answer = self.whole(to, "Post", url, request, limit, MAX_ANSWER).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            code => Err(OutboundError::Refused {
                code,
                text: String::from_utf8_lossy(answer.body()).chars().take(1024).collect(),
            }),
        }
    }

    /// Asks for a path; any status is an answer.
    pub async fn get(
        &self,
        to: &Destination,
        path: &str,
        headers: &[(http::HeaderName, HeaderValue)],
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), OutboundError> {
        let answer = self.fetch(to, path, headers, limit, MAX_ANSWER).await?;
        Ok((answer.status(), answer.into_body()))
    }

    /// As [`Self::get`], with the headers of the answer, of which no more than `most` bytes are read.
    pub async fn fetch(
        &self,
        to: &Destination,
        path: &str,
        headers: &[(http::HeaderName, HeaderValue)],
        limit: Duration,
        most: usize,
    ) -> Result<Response<Bytes>, OutboundError> {
        let url = to.url(path);
        let mut request = Request::get(&url).body(boxed(Full::new(Bytes::new())))?;
        for (name, value) in headers {
            request.headers_mut().insert(name, value.clone());
        }
        self.whole(to, "Get", url, request, limit, most).await
    }

    async fn whole(
        &self,
        to: &Destination,
        method: &'static str,
        url: String,
        mut request: Request<RequestBody>,
        limit: Duration,
        most: usize,
    ) -> Result<Response<Bytes>, OutboundError> {
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("application/json, */*"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let asking = async {
            let (parts, body) = self.send(to, request).await?.into_parts();
            let body = Limited::new(body, most).collect().await;
            let body = body.map_err(|source| OutboundError::Failed { method, url: url.clone(), source })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        match tokio::time::timeout(limit, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(OutboundError::Timeout { method, url }),
        }
    }

    /// Sends a request as it is and returns the answer as it comes; may be upgraded.
    pub async fn send(
        &self,
        to: &Destination,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, OutboundError> {
        let client = self.client(to)?;
        let (method, url) = (title(request.method()), request.uri().to_string());
        client.request(request).await.map_err(|error| OutboundError::Failed {
            method,
            url,
            source: Box::new(error),
        })
    }

    fn client(&self, to: &Destination) -> Result<HttpClient, OutboundError> {
        let key = (to.trust.clone(), to.identify);
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let identity = self.identity.as_ref().filter(|_| to.identify);
        let tls = trust::client(&to.trust, identity).map_err(OutboundError::Trust)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_FOR)
            .build(Connector::new(self.objects.clone(), self.inside.clone(), tls));
        let mut clients = self.clients.lock();
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// As upstream's messages begin.
fn title(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "Get",
        http::Method::POST => "Post",
        http::Method::PUT => "Put",
        http::Method::PATCH => "Patch",
        http::Method::DELETE => "Delete",
        _ => "Request",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn destinations() {
        #[track_caller]
        fn check(config: Value, url: &str) {
            assert_eq!(Destination::of_client_config(&config).unwrap().url("?timeout=5s"), url);
        }
        check(json!({"url": "https://a.example/x/"}), "https://a.example/x?timeout=5s");
        check(
            json!({"service": {"namespace": "ns", "name": "s", "path": "/convert"}}),
            "https://s.ns.svc:443/convert?timeout=5s",
        );
        assert!(Destination::of_client_config(&json!({})).is_err());
        assert!(Destination::of_client_config(&json!({"url": "https://a", "caBundle": "?"})).is_err());
    }
}
