//! Requests that are relayed: log, exec, attach and port-forward to kubelets; `proxy` to nodes, pods and services.
//!
//! [`target`] finds out where a request goes, [`backend`] opens connections there, [`relay`] sends it on and brings
//! the answer back. After a protocol upgrade only bytes are copied: SPDY and WebSocket are spoken by the client and
//! the far end, but for what [`translate`] is for. [`links`] in what `proxy` brings back lead through it again.

pub mod backend;
pub mod container;
mod html;
mod links;
pub mod log;
pub mod relay;
pub mod streaming;
pub mod target;
pub mod translate;

use std::sync::Arc;

use api::status::Status;
use futures::future::BoxFuture;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use http::{Request, Response};

use crate::UserInfo;
use crate::admission;
use crate::admission::objects::Objects;
use crate::config::Config;
use crate::request::RequestInfo;
use crate::server::body::{RequestBody, ResponseBody};
use crate::state::State;
use backend::Connector;
use links::Links;
use target::Target;

#[cfg(test)]
mod tests;

/// Connections to kubelets and endpoints.
pub struct NodeProxy {
    connector: Connector,
}

impl NodeProxy {
    pub fn new(config: &Config) -> Result<Self, Status> {
        Ok(Self { connector: Connector::new(config).map_err(Status::internal)? })
    }
}

/// Relays one request; authorized already.
pub fn serve(
    state: Arc<State>,
    info: RequestInfo,
    user: UserInfo,
    request: Request<RequestBody>,
) -> BoxFuture<'static, Result<Response<ResponseBody>, Status>> {
    Box::pin(relayed(state, info, user, request))
}

async fn relayed(
    state: Arc<State>,
    info: RequestInfo,
    user: UserInfo,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    // Another server may have written what this request is about.
    state.settle().await?;
    let objects: &dyn Objects = &*state.caches;
    let query = request.uri().query().unwrap_or_default();
    if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward") {
        also_create(&state, &user, &info).await?;
    }
    admission::connect::admit(&state, &user, &info, query).await?;
    let target = match (info.resource.as_str(), info.subresource.as_str()) {
        ("pods", "log") => match log::target(objects, &info, query)? {
            Some(target) => target,
            // Not scheduled yet: there is nothing to tell.
            None => return Ok(log::nothing()),
        },
        ("pods", "exec" | "attach" | "portforward") => streaming::target(objects, &info, query)?,
        ("pods", "proxy") => Target::pod(objects, &info, request.uri())?,
        ("services", "proxy") => Target::service(objects, &info, request.uri())?,
        ("nodes", "proxy") => Target::node(objects, &info, request.uri())?,
        (resource, _) => return Err(Status::not_found(("", resource), &info.name)),
    };
    match info.subresource.as_str() {
        "portforward" if ::streaming::translated(request.headers(), true) => {
            translate::port_forward(&state, target, request).await
        }
        "exec" | "attach" if ::streaming::translated(request.headers(), false) => {
            let streams = streaming::streams(query);
            translate::remote_command(state, target, streams, request)
        }
        "proxy" => proxied(&state.nodes.connector, target, request).await,
        _ => relay::relay(&state.nodes.connector, target, request).await,
    }
}

/// A client that speaks to the far end itself, and is not to be led astray by what that says of its own paths.
async fn proxied(
    connector: &Connector,
    target: Target,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let method = request.method().clone();
    if !relay::wants_upgrade(request.headers())
        && let Some(answer) = links::to_root(&method, request.uri())
    {
        return Ok(answer);
    }
    let accepted = request.headers().get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        // Links can only be followed in what can be read.
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    let links = Links::new(request.uri(), &target);
    let answer = relay::relay(connector, target, request).await?;
    Ok(links.through(&method, answer))
}

/// WebSockets begin with GET, so the verb is `get`; running something in a pod takes `create` all the same.
async fn also_create(state: &State, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
    if info.verb != "get" {
        return Ok(());
    }
    let create = RequestInfo { verb: "create".to_owned(), ..info.clone() };
    state.authorizer.require(user, &create).await
}
