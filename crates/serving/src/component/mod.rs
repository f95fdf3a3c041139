//! The pages of a part of the control plane over HTTPS: health, metrics, configuration, flags.
//!
//! Health is told to everybody, as load balancers and kubelets need it; the rest to who may `get` its path.

mod health;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub use api::{version, zpages};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use rustls::server::ResolvesServerCert;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::authority::{Act, Authority, Refusal, Rules};
use crate::roots;
use crate::tls::{self, Ephemeral, Files, ServeError, Tls};
use crate::user::User;
pub use health::Check;

/// Metrics, in Prometheus' text form.
pub type Told = Arc<dyn Fn() -> String + Send + Sync>;

/// What there is to be told.
pub struct Component {
    /// Upstream's name, such as `kube-scheduler`.
    pub name: &'static str,
    /// Under its name in `/configz`.
    pub configuration: (&'static str, Value),
    pub flags: BTreeMap<String, String>,
    pub metrics: Told,
    /// Further paths that tell metrics, others than those.
    pub more_metrics: Vec<(&'static str, Told)>,
    pub checks: Vec<Check>,
}

/// How it is served.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Certificate and key; without, one is made that nobody vouches for.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Signs clients' certificates; without, the cluster is asked whose do.
    pub client_ca: Option<PathBuf>,
    /// Whether the cluster is asked by what authority clients are known.
    pub lookup: bool,
    /// Served to everybody; a `*` at the end stands for whatever follows.
    pub always_allow: Vec<String>,
    pub rules: Rules,
}

impl Options {
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            certificate: None,
            client_ca: None,
            lookup: true,
            always_allow: ["/healthz", "/readyz", "/livez"].map(str::to_owned).to_vec(),
            rules: Rules::default(),
        }
    }

    fn allows(&self, path: &str) -> bool {
        // A path is meant with what is below it only where a star says so.
        self.always_allow.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path.trim_end_matches('/') == allowed.trim_end_matches('/'),
        })
    }
}

struct Server {
    component: Component,
    health: health::Health,
    options: Options,
    authority: Authority,
    started: Timestamp,
    paths: Vec<&'static str>,
}

/// Serves the pages until `shutdown`; the API server is asked by `client`.
pub async fn serve(
    component: Component,
    options: Options,
    client: kube::Client,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let roots = options.client_ca.as_deref().map(tls::certificates).transpose()?;
    let certificate: Arc<dyn ResolvesServerCert> = match &options.certificate {
        Some((certificate, key)) => {
            let files = Files::new(certificate.clone(), key.clone());
            files.check()?;
            Arc::new(files)
        }
        None => Arc::new(Ephemeral::new(&leaf(&options))?),
    };
    let lookup = roots.is_none() && options.lookup;
    let tls = Arc::new(Tls::new(certificate, roots.unwrap_or_default())?);
    let listener = tls::listen(options.listen).await?;
    info!(address = %options.listen, name = component.name, "serving health and metrics");
    let mut paths =
        vec!["/configz", "/flagz", "/healthz", "/livez", "/metrics", "/metrics/slis", "/readyz", "/statusz"];
    paths.extend(component.more_metrics.iter().map(|(path, _)| path));
    paths.sort_unstable();
    let server = Arc::new(Server {
        health: health::Health::new(component.checks.clone()),
        authority: Authority::new(client.clone(), options.rules.clone()),
        started: Timestamp::now(),
        component,
        options,
        paths,
    });
    let handle = move |user, request| {
        let server = server.clone();
        async move { server.handle(user, request).await }
    };
    let following = async {
        if lookup {
            roots::follow(client, tls.clone(), shutdown.clone()).await;
        }
    };
    tokio::join!(tls::serve(listener, tls.clone(), handle, shutdown.clone()), following);
    Ok(())
}

fn leaf(options: &Options) -> pki::Leaf {
    pki::Leaf {
        common_name: "localhost".to_owned(),
        dns_names: vec!["localhost".to_owned()],
        addresses: vec![[127, 0, 0, 1].into(), options.listen.ip()],
        server: true,
        ..pki::Leaf::default()
    }
}

type Answer = Response<Full<Bytes>>;

impl Server {
    async fn handle(&self, user: Option<User>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if let Err(refusal) = self.admit(user, &request).await {
            return refused(&refusal);
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
        }
        if let Some((status, told)) = self.health.answer(path, request.uri().query().unwrap_or_default()) {
            return text(status, told);
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        match path.trim_end_matches('/') {
            "/metrics" => metrics((self.component.metrics)() + &exposition::common(&version::LABELS)),
            "/metrics/slis" => metrics(self.health.indicators().text()),
            path if let Some((_, told)) = self.component.more_metrics.iter().find(|(of, _)| *of == path) => {
                metrics(told())
            }
            "/configz" => {
                let (name, configuration) = &self.component.configuration;
                typed("application/json", json!({*name: configuration}).to_string())
            }
            "/statusz" => self.zpage(accept, "Statusz", |form| {
                let told = zpages::Status {
                    name: self.component.name,
                    started: self.started,
                    version: version::GIT_VERSION,
                    paths: &self.paths,
                };
                zpages::status(&told, Timestamp::now(), form)
            }),
            "/flagz" => self.zpage(accept, "Flagz", |form| {
                zpages::flags(self.component.name, &self.component.flags, form)
            }),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
        }
    }

    fn zpage(&self, accept: Option<&str>, kind: &str, page: impl Fn(&zpages::Form) -> String) -> Answer {
        match zpages::Form::asked(accept, kind) {
            Some(form @ zpages::Form::Text) => text(StatusCode::OK, page(&form)),
            Some(form) => typed("application/json", page(&form)),
            None => text(StatusCode::NOT_ACCEPTABLE, "Not Acceptable\n".to_owned()),
        }
    }

    async fn admit(&self, user: Option<User>, request: &Request<Incoming>) -> Result<(), Refusal> {
        let path = request.uri().path();
        let open = self.options.allows(path);
        let user = match self.authority.authenticate(user, request.headers()).await {
            Ok(user) => user,
            // Who asks makes no difference, and the API server may be what is being waited for.
            Err(Refusal::Unavailable(_)) if open => return Ok(()),
            Err(refusal) => return Err(refusal),
        };
        let verb = request.method().as_str().to_ascii_lowercase();
        let act = Act::Path { verb, path: path.to_owned() };
        if open || self.authority.allows(&user, act.clone()).await? {
            return Ok(());
        }
        Err(Refusal::Forbidden { user: user.name, act })
    }
}

fn refused(refusal: &Refusal) -> Answer {
    let (reason, message) = match refusal {
        Refusal::Unauthorized => ("Unauthorized", "Unauthorized".to_owned()),
        Refusal::Forbidden { user, act: Act::Path { verb, path } } => {
            ("Forbidden", format!("forbidden: User {user:?} cannot {verb} path {path:?}"))
        }
        other => ("InternalError", other.to_string()),
    };
    let status = refusal.status();
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    });
    let mut answer = typed("application/json", body.to_string());
    *answer.status_mut() = status;
    answer
}

fn typed(kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = typed("text/plain; charset=utf-8", body);
    *answer.status_mut() = status;
    answer
}

fn metrics(body: String) -> Answer {
    typed(exposition::CONTENT_TYPE, body)
}

#[cfg(test)]
mod tests;
