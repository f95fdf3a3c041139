//! Requests for resources: one set of handlers for every kind.

pub mod call;
mod component_status;
pub mod decode;
mod delete;
mod frame;
pub(crate) mod list;
pub mod patch;
pub mod render;
mod watch;
pub mod write;

use std::sync::Arc;

use api::codec::protobuf;
use api::status::Status;
use http::{Request, StatusCode};
use parking_lot::Mutex;

use crate::UserInfo;
use crate::access_review;
use crate::audit;
use crate::negotiate::{Accept, Offer};
use crate::options::Query;
use crate::proxy;
use crate::request::RequestInfo;
use crate::server::body::RequestBody;
use crate::server::respond::{self, Answer};
use crate::state::State;
use crate::subresources;
use call::{Call, MAX_BODY, read_body};

/// Answers a request for a resource; authorized already. `told`: what a client whose request fails is warned of.
pub async fn serve(
    state: Arc<State>,
    info: RequestInfo,
    user: UserInfo,
    parts: http::request::Parts,
    body: RequestBody,
    told: &mut Vec<String>,
) -> Result<Answer, Status> {
    let catalog = state.catalog();
    let served =
        catalog.get(&info.group, &info.version, &info.resource).ok_or_else(Status::unknown_resource)?.clone();
    let resource = &served.resource;
    let is_namespace = info.group.is_empty() && info.resource == "namespaces";
    let scope_fits = match (resource.namespaced, info.namespace.is_empty()) {
        // Everything in all namespaces; but a name is a name within a namespace.
        (true, true) if info.verb == "deletecollection" => return Err(Status::wrong_method()),
        (true, true) => {
            info.name.is_empty()
                && (info.verb != "create" || !info.subresource.is_empty() || creates_without_namespace(&info))
        }
        (true, false) => true,
        (false, unscoped) => unscoped || is_namespace,
    };
    if !scope_fits {
        return Err(match info.verb.as_str() {
            "create" if info.subresource.is_empty() && info.name.is_empty() => Status::wrong_method(),
            _ => Status::unknown_resource(),
        });
    }
    let terminating = served.custom.as_ref().is_some_and(|custom| custom.definition.terminating);
    if terminating && info.verb == "create" {
        return Err(Status::forbidden(
            (info.group.as_str(), info.resource.as_str()),
            &info.name,
            "create not allowed while custom resource definition is terminating",
        ));
    }
    if served.custom.is_some() && info.is_mutating() && is_protobuf(&parts.headers) {
        return Err(Status::unsupported_media_type(&["application/json", "application/yaml"]));
    }
    if !info.subresource.is_empty() {
        let subresource = resource.subresource(&info.subresource).ok_or_else(Status::unknown_resource)?;
        if matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy") {
            return proxy::serve(state, info, user, Request::from_parts(parts, body)).await;
        }
        if !subresource.supports(&info.verb) {
            return Err(Status::wrong_method());
        }
    } else if !(resource.supports(&info.verb)
        || terminating && matches!(info.verb.as_str(), "update" | "patch"))
        || (info.name.is_empty() && matches!(info.verb.as_str(), "update" | "patch"))
        || (!info.name.is_empty() && info.verb == "create")
    {
        return Err(Status::wrong_method());
    }
    let offer = Offer {
        // Questions are answered as they are; there is nothing to list or to print.
        transforms: info.subresource.is_empty() && !is_review(&info),
        protobuf: protobuf::schema_of(&resource.gvk).is_some(),
        stream: info.verb == "watch",
    };
    let accept = Accept::negotiate(&parts.headers, offer)?;
    let body = match info.is_mutating() {
        true => read_body(&parts.headers, body, MAX_BODY).await?,
        false => bytes::Bytes::new(),
    };
    let query = Query::parse(parts.uri.query());
    let call = Call {
        pretty: query.pretty(&parts.headers),
        query,
        headers: parts.headers,
        accept,
        warnings: Mutex::default(),
        state,
        served,
        info,
        user,
    };
    if let Some(warning) = api::warnings::of_resource(&call.served.resource.gvk) {
        call.warn(warning);
        deprecated(&call);
    }
    if let Some(warning) = call.served.custom.as_ref().and_then(|custom| custom.version.deprecation.clone()) {
        call.warn(warning);
        deprecated(&call);
    }
    if call.info.verb == "watch" {
        let warnings = std::mem::take(&mut *call.warnings.lock());
        let mut answer = watch::watch(call).await?;
        respond::warn(&mut answer, &warnings);
        return Ok(answer);
    }
    let answered = dispatch(&call, &body).await;
    let warnings = call.warnings.into_inner();
    match answered {
        Ok(mut answer) => {
            respond::warn(&mut answer, &warnings);
            Ok(answer)
        }
        Err(status) => {
            *told = warnings;
            Err(status)
        }
    }
}

/// Tells who runs the cluster that somebody still uses what is to go.
fn deprecated(call: &Call) {
    call.state.metrics.deprecated(&call.info);
    audit::annotate("k8s.io/deprecated", "true");
}

async fn dispatch(call: &Call, body: &bytes::Bytes) -> Result<Answer, Status> {
    if !call.info.subresource.is_empty() && call.info.subresource != "status" {
        return subresources::serve(call, body).await;
    }
    if call.info.verb == "create" && is_review(&call.info) {
        let object = decode::reviewed(call, body)?;
        let answered = access_review::review(&call.state, &call.user, &call.info, object).await?;
        return render::value(call, StatusCode::CREATED, answered);
    }
    let components = call.served.resource.plural == component_status::PLURAL && call.served.custom.is_none();
    match call.info.verb.as_str() {
        "get" if components => component_status::one(call).await,
        "list" if components => component_status::all(call).await,
        "get" => {
            let options = crate::options::ListOptions::parse(&call.query, false)?;
            list::reach(call, options.resource_version).await?;
            let object = call.served.cache.get(&call.key()).ok_or_else(|| call.not_found())?;
            let object = render::shown(call, &object).await?;
            render::object(call, StatusCode::OK, &object)
        }
        "list" => list::list(call).await,
        "create" if call.served.resource.plural == "bindings" => subresources::binding(call, body).await,
        "create" => write::create(call, body).await,
        "update" => write::update(call, body).await,
        "patch" => patch::patch(call, body).await,
        "delete" => delete::one(call, body).await,
        "deletecollection" => delete::collection(call, body).await,
        verb => Err(Status::method_not_allowed(call.group_resource(), verb)),
    }
}

/// Custom objects have no protobuf form.
fn is_protobuf(headers: &http::HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| content_type.starts_with(api::codec::PROTOBUF))
}

/// Kinds that are questions: answered, never stored.
fn is_review(info: &RequestInfo) -> bool {
    matches!(info.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
}

fn creates_without_namespace(info: &RequestInfo) -> bool {
    is_review(info) && info.resource != "localsubjectaccessreviews"
}
