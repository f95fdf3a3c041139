//! Making a [`kube::Client`].

use std::path::{Path, PathBuf};

use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::renewed;

/// A client could not be made from a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot read kubeconfig {path}: {source}")]
    Kubeconfig { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error("cannot make a client from kubeconfig {path}: {source}")]
    Client { path: PathBuf, source: Box<kube::Error> },
}

/// A client over HTTPS, for the current context of the kubeconfig at `path`. Objects that it changes tell `agent`, the
/// name of the program, as the manager of their fields.
pub async fn from_kubeconfig(path: &Path, agent: &str) -> Result<kube::Client, ConnectError> {
    let kubeconfig_error =
        |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(kubeconfig_error)?;
    let files = certificate_files(&kubeconfig);
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(kubeconfig_error)?;
    // Watches end by the server's timeout; a read timeout of the client's own would cut quiet ones.
    config.read_timeout = None;
    config.headers.extend(HeaderValue::from_str(&user_agent(agent)).map(|value| (USER_AGENT, value)));
    let client = match files {
        // Whoever wrote them renews them.
        Some((certificate, key)) => renewed::client(config, &certificate, &key),
        None => kube::Client::try_from(config),
    };
    client.map_err(|source| ConnectError::Client { path: path.to_owned(), source: Box::new(source) })
}

/// As the components of Kubernetes present themselves.
fn user_agent(agent: &str) -> String {
    format!("{agent}/{} ({}/{})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH)
}

/// The files that the current user's certificate and key are in, if they are in files.
fn certificate_files(kubeconfig: &Kubeconfig) -> Option<(PathBuf, PathBuf)> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == *current)?.context.as_ref()?;
    let user = context.user.as_ref()?;
    let info = kubeconfig.auth_infos.iter().find(|info| info.name == *user)?.auth_info.as_ref()?;
    Some((info.client_certificate.as_ref()?.into(), info.client_key.as_ref()?.into()))
}

/// A client whose requests are calls of `service`: an API server of this process, with the identity that the
/// service was made for. `agent` as [`from_kubeconfig`] has it.
pub fn in_process<S, B>(service: S, agent: &str) -> kube::Client
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = hyper::body::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    let agent = HeaderValue::from_str(&user_agent(agent)).ok();
    let named = tower::ServiceBuilder::new().map_request(move |mut request: Request<Body>| {
        if let Some(agent) = &agent {
            request.headers_mut().entry(USER_AGENT).or_insert_with(|| agent.clone());
        }
        request
    });
    kube::Client::new(named.service(service), "default")
}
