//! Paths to handlers, behind authentication and authorization.

use std::time::Instant;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Container, Pod};
use serving::User;
use tracing::debug;

use crate::cri::view::keys;
use crate::meters;
use crate::pod::ext::PodExt;

use super::streaming::Target;
use super::{
    Body, Server, cadvisor, checkpoint, error, json, logs, metrics, node_logs, pages, resource_metrics,
    streaming, summary,
};

pub async fn handle(server: Server, user: Option<User>, request: Request<Incoming>) -> Response<Body> {
    let (method, began) = (request.method().clone(), Instant::now());
    let first = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    // Only words that are ours: anybody may ask for anything.
    let path = KNOWN.into_iter().find(|known| *known == first).unwrap_or_default();
    let lasts = if matches!(path, "exec" | "attach" | "portForward") { "true" } else { "false" };
    let answer = answer(server, user, request).await;
    let method = if is_common(&method) { method.as_str() } else { "" };
    let labels = [("long_running", lasts), ("method", method), ("path", path), ("server_type", "readwrite")];
    meters::count("kubelet_http_requests_total", &labels);
    meters::observe("kubelet_http_requests_duration_seconds", &labels, began.elapsed());
    answer
}

const KNOWN: [&str; 15] = [
    "attach",
    "checkpoint",
    "configz",
    "containerLogs",
    "exec",
    "flagz",
    "healthz",
    "logs",
    "metrics",
    "pods",
    "portForward",
    "run",
    "runningpods",
    "stats",
    "statusz",
];

fn is_common(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE].contains(method)
}

async fn answer(server: Server, user: Option<User>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if let Err((status, message)) = server.auth.admit(user, request.headers(), request.method(), &path).await
    {
        debug!(path, %status, message, "request refused");
        return error(status, message);
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = request.method().clone();
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok()).map(str::to_owned);
    let read = method == Method::GET || method == Method::HEAD;
    let debugging = matches!(
        parts.first(),
        Some(
            &("containerLogs"
                | "exec"
                | "attach"
                | "portForward"
                | "run"
                | "runningpods"
                | "logs"
                | "checkpoint")
        )
    );
    if debugging && !server.ctx.options.config.enable_debugging_handlers {
        return error(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.");
    }
    match parts.as_slice() {
        ["healthz"] | ["healthz", _] if read => {
            server.health.answer(parts.get(1).copied(), request.uri().query().unwrap_or_default())
        }
        ["pods"] if read => pods(&server),
        ["logs", ..] if read && server.ctx.options.config.enable_system_log_handler => {
            node_logs::handle(path.strip_prefix("/logs").unwrap_or_default()).await
        }
        ["checkpoint", namespace, pod, container] if method == Method::POST => {
            let query = request.uri().query().unwrap_or_default();
            checkpoint::handle(&server.ctx, Target { namespace, pod, container }, query).await
        }
        ["runningpods"] | ["runningpods", ""] if read => running_pods(&server).await,
        ["statusz"] if read => pages::status(&server.ctx, accept.as_deref()),
        ["flagz"] if read => pages::flags(&server.ctx, accept.as_deref()),
        ["configz"] if read => json(&serde_json::json!({"kubeletconfig": server.ctx.options.config})),
        ["metrics"] if read => metrics::kubelet(&server.ctx).await,
        ["metrics", "resource"] if read => resource_metrics::handle(&server.ctx).await,
        ["metrics", "cadvisor"] if read => cadvisor::handle(&server.ctx).await,
        ["metrics", "slis"] if read => server.health.metrics(),
        ["metrics", "probes"] if read => metrics::probes(&server.ctx),
        ["stats", "summary"] if read => {
            summary::handle(
                &server.ctx,
                &server.rates,
                is_true(request.uri().query().unwrap_or_default(), "only_cpu_and_memory"),
            )
            .await
        }
        ["containerLogs", namespace, pod, container] if read => {
            logs::handle(&server.ctx, namespace, pod, container, request.uri().query().unwrap_or_default())
                .await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            streaming::exec(&server.ctx, Target { namespace, pod, container }, request).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            streaming::attach(&server.ctx, Target { namespace, pod, container }, request).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            streaming::port_forward(&server.ctx, namespace, pod, request).await
        }
        ["run", namespace, pod, container] | ["run", namespace, pod, _, container]
            if method == Method::POST =>
        {
            streaming::run(&server.ctx, Target { namespace, pod, container }, request).await
        }
        _ => error(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn pods(server: &Server) -> Response<Body> {
    // Static pods as they are here, not their mirrors.
    let statics = server.ctx.statics.lock();
    let shown = server.ctx.pods.list();
    let mirror_of =
        |pod: &Pod| shown.iter().find(|mirror| mirror.is_mirror() && mirror.runtime_uid() == pod.uid());
    let own = statics.iter().map(|pod| {
        let mut pod = (**pod).clone();
        pod.status = mirror_of(&pod).and_then(|mirror| mirror.status.clone());
        pod
    });
    let others = shown.iter().filter(|pod| !pod.is_mirror()).map(|pod| (**pod).clone());
    let items: Vec<Pod> = own.chain(others).collect();
    json(&List { items, ..Default::default() })
}

/// The pods of the runtime, whatever the API says: only who they are and which containers run.
async fn running_pods(server: &Server) -> Response<Body> {
    use k8s_cri::v1 as cri;
    let filter = cri::ContainerFilter {
        state: Some(cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning as i32 }),
        ..Default::default()
    };
    let request = cri::ListContainersRequest { filter: Some(filter) };
    let list = match server.ctx.cri.list_containers(request).await {
        Ok(list) => list.containers,
        Err(problem) => return error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    };
    let mut pods: std::collections::BTreeMap<String, Pod> = std::collections::BTreeMap::new();
    for container in list {
        let label = |key: &str| container.labels.get(key).cloned();
        let Some(uid) = label(keys::POD_UID) else { continue };
        let pod = pods.entry(uid.clone()).or_default();
        pod.metadata.name = label(keys::POD_NAME);
        pod.metadata.namespace = label(keys::POD_NAMESPACE);
        pod.metadata.uid = Some(uid);
        pod.spec.get_or_insert_default().containers.push(Container {
            name: label(keys::CONTAINER_NAME).unwrap_or_default(),
            image: container.image.map(|image| image.image),
            ..Default::default()
        });
    }
    json(&List { items: pods.into_values().collect::<Vec<Pod>>(), ..Default::default() })
}

/// The value of a query parameter, percent-decoded; the last one wins.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    parameters(query, name).pop()
}

/// All values of a query parameter.
pub fn parameters(query: &str, name: &str) -> Vec<String> {
    query
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
        .collect()
}

pub fn is_true(query: &str, name: &str) -> bool {
    parameter(query, name).is_some_and(|value| matches!(value.as_str(), "1" | "true" | "True" | "t"))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (first, hex) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', None) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, None) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = "command=sh&command=-c&command=echo+a%20%26&tty=true&empty";
        assert_eq!(parameters(query, "command"), ["sh", "-c", "echo a &"]);
        assert!(is_true(query, "tty"));
        assert!(!is_true(query, "empty"));
        assert_eq!(parameter(query, "none"), None);
        assert_eq!(decode("%zz%2"), "%zz%2");
    }
}
