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

/// The ID of a running container, from the pod's status.
fn running(ctx: &Context, namespace: &str, name: &str, container: &str) -> Result<String, Answer> {
    let Some(pod) = find_pod(ctx, namespace, name) else {
        return Err(refuse(
            StatusCode::NOT_FOUND,
            format!("pod {name:?} does not exist in namespace {namespace:?}"),
        ));
    };
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

pub async fn exec(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    container: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let id = match running(ctx, namespace, pod, container) {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    let tty = is_true(query, "tty");
    let asked = cri::ExecRequest {
        container_id: id,
        cmd: parameters(query, "command"),
        tty,
        stdin: wants(query, "input", "stdin"),
        stdout: wants(query, "output", "stdout"),
        // With a terminal, everything is on one stream.
        stderr: !tty && wants(query, "error", "stderr"),
    };
    match ctx.cri.exec(asked).await {
        Ok(answer) => relay(&answer.url, request).await,
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    }
}

pub async fn attach(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    container: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let id = match running(ctx, namespace, pod, container) {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    let spec = find_pod(ctx, namespace, pod).and_then(|pod| container_tty(&pod, container));
    // Whether there is a terminal is the container's business, not the client's.
    let tty = spec.unwrap_or(false);
    let asked = cri::AttachRequest {
        container_id: id,
        tty,
        stdin: wants(query, "input", "stdin"),
        stdout: wants(query, "output", "stdout"),
        stderr: !tty && wants(query, "error", "stderr"),
    };
    match ctx.cri.attach(asked).await {
        Ok(answer) => relay(&answer.url, request).await,
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    }
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
    let Some(found) = find_pod(ctx, namespace, pod) else {
        return error(
            StatusCode::NOT_FOUND,
            format!("pod {pod:?} does not exist in namespace {namespace:?}"),
        );
    };
    let sandboxes = ctx
        .cri
        .list_pod_sandbox(cri::ListPodSandboxRequest {
            filter: Some(cri::PodSandboxFilter {
                state: Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady as i32 }),
                label_selector: [(keys::POD_UID.to_owned(), found.runtime_uid().to_owned())].into(),
                ..Default::default()
            }),
        })
        .await;
    let sandbox = match sandboxes {
        Ok(list) => list.items.into_iter().max_by_key(|sandbox| sandbox.created_at),
        Err(problem) => return error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    };
    let Some(sandbox) = sandbox else {
        return error(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("unable to do port forwarding: pod {pod:?} has no running sandbox"),
        );
    };
    let query = request.uri().query().unwrap_or_default();
    let mut ports = parameters(query, "port");
    ports.extend(parameters(query, "ports").iter().flat_map(|list| list.split(',').map(str::to_owned)));
    let asked = cri::PortForwardRequest {
        pod_sandbox_id: sandbox.id,
        port: ports.iter().filter_map(|port| port.parse().ok()).collect(),
    };
    match ctx.cri.port_forward(asked).await {
        Ok(answer) => relay(&answer.url, request).await,
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    }
}

/// The old, plain way to run a command: its output is the answer.
pub async fn run(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    container: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let id = match running(ctx, namespace, pod, container) {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    let command = parameters(query, "cmd");
    let command: Vec<String> = command.iter().flat_map(|text| text.split(' ').map(str::to_owned)).collect();
    match ctx.cri.exec_sync(&id, command, Duration::ZERO).await {
        Ok(result) => {
            let mut output = result.stdout;
            output.extend(result.stderr);
            let status =
                if result.exit_code == 0 { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            text(status, String::from_utf8_lossy(&output).into_owned())
        }
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    }
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
