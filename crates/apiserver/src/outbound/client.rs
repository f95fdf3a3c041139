//! An HTTP client for one server that is not part of the cluster: a webhook that a kubeconfig names, or an issuer of
//! tokens. Connections are kept; answers are bounded in size and time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as Pool, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;

use super::kubeconfig::Kubeconfig;
use super::trust::{self, Identity};
use super::{AGENT, Trust};

/// Nobody needs to answer more.
const MAX_ANSWER: usize = 4 << 20;
const IDLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);

/// A client could not be made of its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot read {path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("{path}: {reason}")]
    Kubeconfig { path: PathBuf, reason: String },
    #[error("{0:?} is not a URL that can be asked")]
    Url(String),
    #[error("TLS: {0}")]
    Tls(String),
}

/// A server did not give a usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("{url}: no answer: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url}: no answer within {seconds} s")]
    Timeout { url: String, seconds: u64 },
    #[error("{url} answered {code}")]
    Code { url: String, code: u16 },
    #[error("{url}: {reason}")]
    Body { url: String, reason: String },
}

impl CallError {
    /// Whether it may go better the next time.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Code { code, .. } => *code == 429 || *code >= 500,
            Self::Body { .. } => false,
        }
    }
}

/// Asks one server.
#[derive(Clone)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// What `post` posts to.
    url: Uri,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// As the current context of a kubeconfig file says.
    pub fn from_kubeconfig(path: &Path) -> Result<Self, ClientError> {
        let config = Kubeconfig::load(path)?;
        let bad = |reason: String| ClientError::Kubeconfig { path: path.to_owned(), reason };
        let trust = match (config.authority, config.skip_verify) {
            (_, true) => Trust::Anyone,
            (Some(pem), false) => Trust::Bundle(pem.into()),
            (None, false) => Trust::System,
        };
        let identity = config.identity.map(|(certificates, key)| Identity::from_pem(&certificates, &key));
        let tls =
            trust::client(&trust, identity.transpose().map_err(bad)?.as_ref()).map_err(ClientError::Tls)?;
        let mut client = Self::new(&config.server, tls, config.server_name.as_deref())?;
        client.authorization = match config.authorization {
            None => None,
            Some(value) => {
                let mut value = HeaderValue::from_str(&value).map_err(|_| ClientError::Kubeconfig {
                    path: path.to_owned(),
                    reason: "the user's credentials are not fit for a header".to_owned(),
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(client)
    }

    /// A client without credentials that trusts these authorities, or those of this machine.
    pub fn anonymous(url: &str, authority: Option<&[u8]>) -> Result<Self, ClientError> {
        let trust = authority.map_or(Trust::System, |pem| Trust::Bundle(Bytes::copy_from_slice(pem)));
        Self::new(url, trust::client(&trust, None).map_err(ClientError::Tls)?, None)
    }

    /// A client without credentials, for what is no secret: it does not ask who answers.
    pub fn trusting_anyone(url: &str) -> Result<Self, ClientError> {
        Self::new(url, trust::client(&Trust::Anyone, None).map_err(ClientError::Tls)?, None)
    }

    fn new(url: &str, tls: ClientConfig, server_name: Option<&str>) -> Result<Self, ClientError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = match server_name {
            None => connector.enable_all_versions().wrap_connector(http),
            Some(name) => {
                let name = ServerName::try_from(name.to_owned())
                    .map_err(|_| ClientError::Tls(format!("{name:?} is not a server name")))?;
                connector
                    .with_server_name_resolver(FixedServerNameResolver::new(name))
                    .enable_all_versions()
                    .wrap_connector(http)
            }
        };
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        Ok(Self { pool, url: parsed(url)?, authorization: None })
    }

    /// Posts JSON and reads JSON.
    pub async fn post(&self, body: &Value, timeout: Duration) -> Result<Value, CallError> {
        let answer = self.post_bytes(body.to_string().into(), timeout).await?;
        serde_json::from_slice(&answer).map_err(|error| CallError::Body {
            url: self.url.to_string(),
            reason: format!("the answer is not JSON: {error}"),
        })
    }

    /// As [`Self::post`], again after a pause when it may go better then.
    pub async fn post_repeatedly(
        &self,
        body: &Value,
        timeout: Duration,
        attempts: u32,
    ) -> Result<Value, CallError> {
        let mut pause = Duration::from_millis(500);
        let mut attempt = 1;
        loop {
            match self.post(body, timeout).await {
                Err(error) if error.is_transient() && attempt < attempts => {
                    tokio::time::sleep(pause).await;
                    pause = pause.mul_f64(1.5);
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Posts JSON.
    pub async fn post_bytes(&self, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        self.call(Method::POST, self.url.clone(), body, timeout).await
    }

    /// The document at a URL.
    pub async fn get(&self, url: &str, timeout: Duration) -> Result<Bytes, CallError> {
        let parsed = parsed(url)
            .map_err(|error| CallError::Body { url: url.to_owned(), reason: error.to_string() })?;
        self.call(Method::GET, parsed, Bytes::new(), timeout).await
    }

    async fn call(
        &self,
        method: Method,
        url: Uri,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let told = url.to_string();
        let unreachable = |reason: String| CallError::Unreachable { url: told.clone(), reason };
        let mut request = Request::new(Full::new(body));
        if method == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        *request.method_mut() = method;
        *request.uri_mut() = url;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let calling = async {
            let answer = self.pool.request(request).await.map_err(|error| unreachable(causes(&error)))?;
            let code = answer.status();
            if !code.is_success() {
                return Err(CallError::Code { url: told.clone(), code: code.as_u16() });
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER);
            let collected = body
                .collect()
                .await
                .map_err(|error| CallError::Body { url: told.clone(), reason: error.to_string() })?;
            Ok(collected.to_bytes())
        };
        match tokio::time::timeout(timeout, calling).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout { url: told.clone(), seconds: timeout.as_secs() }),
        }
    }
}

fn parsed(url: &str) -> Result<Uri, ClientError> {
    let uri: Uri = url.parse().map_err(|_| ClientError::Url(url.to_owned()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(_)) => Ok(uri),
        _ => Err(ClientError::Url(url.to_owned())),
    }
}

/// An error with what is behind it: "client error" alone helps nobody.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
