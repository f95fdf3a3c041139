//! Exec, attach and port-forward: the runtime is asked for a URL of its streaming server, and the upgraded
//! connection is relayed to it byte by byte. Which protocol runs inside is between the client and the runtime.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use tracing::debug;

use super::routes::{is_true, parameters};
use super::{Body, error, text};
use crate::context::Context;
use crate::cri::CriError;
use crate::cri::view::keys;
use crate::pod::ext::PodExt;

/// What a refusing streaming server has to say.
const ANSWER_MAX: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(10);

/// An error answer.
type Answer = Box<Response<Body>>;

fn refuse(status: StatusCode, message: impl Into<String>) -> Answer {
    Box::new(error(status, message))
}

pub fn find_pod(ctx: &Context, namespace: &str, name: &str) -> Option<std::sync::Arc<Pod>> {
    ctx.pods.get(namespace, name)
}

fn no_such_pod(namespace: &str, name: &str) -> Answer {
    refuse(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist in namespace {namespace:?}"))
}

/// The ID of a running container, from the pod's status.
pub fn running(ctx: &Context, namespace: &str, name: &str, container: &str) -> Result<String, Answer> {
    let pod = find_pod(ctx, namespace, name).ok_or_else(|| no_such_pod(namespace, name))?;
    let status = pod.status.clone().unwrap_or_default();
    let mut all = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten())
        .chain(status.ephemeral_container_statuses.iter().flatten());
    let found = all.find(|status| status.name == container);
    let is_running = |status: &&k8s_openapi::api::core::v1::ContainerStatus| {
        status.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    let id = found.filter(is_running).and_then(|status| status.container_id.as_deref());
    match id.and_then(|id| id.split_once("://")) {
        Some((_, id)) => Ok(id.to_owned()),
        None => {
            Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("container not found ({container:?})")))
        }
    }
}

/// `input=1` as API servers say it, or `stdin=true` as clients do.
fn wants(query: &str, kubelet: &str, client: &str) -> bool {
    is_true(query, kubelet) || is_true(query, client)
}

/// A request about a running container.
struct Asked<'a> {
    id: String,
    tty: bool,
    query: &'a str,
}

impl<'a> Asked<'a> {
    /// Finds the container that the path names.
    fn of(ctx: &Context, target: &Target<'_>, request: &'a Request<Incoming>) -> Result<Self, Answer> {
        let id = running(ctx, target.namespace, target.pod, target.container)?;
        let query = request.uri().query().unwrap_or_default();
        Ok(Self { id, tty: is_true(query, "tty"), query })
    }

    /// stdin, stdout and stderr, as they are wanted. With a terminal, everything is on one stream.
    fn streams(&self) -> (bool, bool, bool) {
        (
            wants(self.query, "input", "stdin"),
            wants(self.query, "output", "stdout"),
            !self.tty && wants(self.query, "error", "stderr"),
        )
    }
}

/// The container that a path names.
pub struct Target<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
}

/// The end of every handler: the runtime's URL is followed, or its refusal is told.
async fn follow(url: Result<String, CriError>, request: Request<Incoming>) -> Result<Response<Body>, Answer> {
    match url {
        Ok(url) => Ok(relay(&url, request).await),
        Err(problem) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string())),
    }
}

fn settle(answer: Result<Response<Body>, Answer>) -> Response<Body> {
    answer.unwrap_or_else(|refusal| *refusal)
}

pub async fn exec(ctx: &Context, target: Target<'_>, request: Request<Incoming>) -> Response<Body> {
    let answer = async {
        let asked = Asked::of(ctx, &target, &request)?;
        let (stdin, stdout, stderr) = asked.streams();
        let cmd = parameters(asked.query, "command");
        let exec = cri::ExecRequest {
            container_id: asked.id,
            cmd,
            tty: asked.tty,
            stdin,
            stdout,
            stderr,
            ..Default::default()
        };
        follow(ctx.cri.exec(exec).await.map(|answer| answer.url), request).await
    };
    settle(answer.await)
}

pub async fn attach(ctx: &Context, target: Target<'_>, request: Request<Incoming>) -> Response<Body> {
    let answer = async {
        let mut asked = Asked::of(ctx, &target, &request)?;
        let pod = find_pod(ctx, target.namespace, target.pod);
        // Whether there is a terminal is the container's business, not the client's.
        asked.tty = pod.and_then(|pod| container_tty(&pod, target.container)).unwrap_or(false);
        let (stdin, stdout, stderr) = asked.streams();
        let attach = cri::AttachRequest {
            container_id: asked.id,
            tty: asked.tty,
            stdin,
            stdout,
            stderr,
            ..Default::default()
        };
        follow(ctx.cri.attach(attach).await.map(|answer| answer.url), request).await
    };
    settle(answer.await)
}

fn container_tty(pod: &Pod, name: &str) -> Option<bool> {
    let spec = pod.pod_spec();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| (&container.name, container.tty))
        .chain(ephemeral.map(|container| (&container.name, container.tty)));
    all.find(|(known, _)| *known == name).map(|(_, tty)| tty == Some(true))
}

pub async fn port_forward(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let answer = async {
        let pod_sandbox_id = sandbox(ctx, namespace, pod).await?;
        let query = request.uri().query().unwrap_or_default();
        let mut ports = parameters(query, "port");
        ports.extend(parameters(query, "ports").iter().flat_map(|list| list.split(',').map(str::to_owned)));
        let port = ports.iter().filter_map(|port| port.parse().ok()).collect();
        let forward = cri::PortForwardRequest { pod_sandbox_id, port };
        follow(ctx.cri.port_forward(forward).await.map(|answer| answer.url), request).await
    };
    settle(answer.await)
}

/// The ID of the pod's running sandbox.
async fn sandbox(ctx: &Context, namespace: &str, name: &str) -> Result<String, Answer> {
    let pod = find_pod(ctx, namespace, name).ok_or_else(|| no_such_pod(namespace, name))?;
    let filter = cri::PodSandboxFilter {
        state: Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady as i32 }),
        label_selector: [(keys::POD_UID.to_owned(), pod.runtime_uid().to_owned())].into(),
        ..Default::default()
    };
    let list = ctx.cri.list_pod_sandbox(cri::ListPodSandboxRequest { filter: Some(filter) }).await;
    let list = list.map_err(|problem| refuse(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()))?;
    let newest = list.items.into_iter().max_by_key(|sandbox| sandbox.created_at);
    newest.map(|sandbox| sandbox.id).ok_or_else(|| {
        let message = format!("unable to do port forwarding: pod {name:?} has no running sandbox");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
    })
}

/// The old, plain way to run a command: its output is the answer.
pub async fn run(ctx: &Context, target: Target<'_>, request: Request<Incoming>) -> Response<Body> {
    let answer = async {
        let asked = Asked::of(ctx, &target, &request)?;
        let command = parameters(asked.query, "cmd");
        let command: Vec<String> =
            command.iter().flat_map(|text| text.split(' ').map(str::to_owned)).collect();
        let result = ctx.cri.exec_sync(&asked.id, command, Duration::ZERO).await;
        let result =
            result.map_err(|problem| refuse(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()))?;
        let mut output = result.stdout;
        output.extend(result.stderr);
        let status = if result.exit_code == 0 { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        Ok(text(status, String::from_utf8_lossy(&output).into_owned()))
    };
    settle(answer.await)
}

async fn relay(url: &str, request: Request<Incoming>) -> Response<Body> {
    match try_relay(url, request).await {
        Ok(response) => response,
        Err(problem) => error(
            StatusCode::BAD_GATEWAY,
            format!("cannot reach the container runtime's streaming server: {problem}"),
        ),
    }
}

async fn try_relay(url: &str, mut request: Request<Incoming>) -> Result<Response<Body>, super::BoxError> {
    let target: Uri = url.parse()?;
    let authority = target.authority().ok_or("its URL has no address")?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect((authority.host(), port))).await??;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::builder().method(request.method()).uri(path).body(Empty::<Bytes>::new())?;
    *onward.headers_mut() = request.headers().clone();
    // The runtime does not need to know who asked.
    onward.headers_mut().remove(header::AUTHORIZATION);
    onward.headers_mut().remove(header::CONTENT_LENGTH);
    onward.headers_mut().insert(header::HOST, authority.as_str().parse()?);
    let mut answer = sender.send_request(onward).await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.clone_from(answer.headers());
    }
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await?.to_bytes();
        if let Some(headers) = response.headers_mut() {
            headers.remove(header::TRANSFER_ENCODING);
            headers.remove(header::CONTENT_LENGTH);
        }
        return Ok(response.body(super::full(body))?);
    }
    let theirs = hyper::upgrade::on(&mut answer);
    let ours = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match tokio::try_join!(ours, theirs) {
            Ok((ours, theirs)) => {
                let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                if let Err(error) = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await {
                    debug!(%error, "a stream to a container broke");
                }
            }
            Err(error) => debug!(%error, "a stream to a container was not established"),
        }
    });
    Ok(response.body(super::full(Bytes::new()))?)
}
