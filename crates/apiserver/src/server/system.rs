//! Paths that name no resource: discovery, OpenAPI, version, health, metrics.

use std::sync::Arc;

use api::status::Status;
use http::StatusCode;
use serde_json::{Value, json};

use super::body::ResponseBody;
use super::respond::{self, Answer};
use super::{documents, health, zpages};
use crate::aggregation;
use crate::negotiate::{Accept, Offer};
use crate::options::Query;
use crate::request::RequestInfo;
use crate::state::State;
use crate::token::oidc;

pub async fn serve(
    state: &Arc<State>,
    info: &RequestInfo,
    parts: &http::request::Parts,
) -> Result<Answer, Status> {
    if !matches!(info.verb.as_str(), "get" | "head") {
        return Err(Status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    let query = Query::parse(parts.uri.query());
    let path = if info.path.len() > 1 { info.path.trim_end_matches('/') } else { &info.path };
    if let Some(root) = health::root_of(path) {
        return health::serve(state, root, path, &query).await;
    }
    if let Some(page) = zpages::serve(state, path, &parts.headers) {
        return page;
    }
    if let Some((content_type, document)) = oidc::document(&state.issuer, path) {
        let body = serde_json::to_vec(&document).map_err(Status::internal)?;
        return Ok(respond::with_body(StatusCode::OK, content_type, ResponseBody::full(body)));
    }
    if let Some(table) = state.flow_control.dump(path, &query) {
        return Ok(respond::text(StatusCode::OK, table));
    }
    if path == "/metrics" || path == "/metrics/slis" {
        let text = match path {
            "/metrics" => state.metrics.text(state).await,
            _ => state.health.indicators().text(),
        };
        let body = ResponseBody::full(text);
        return Ok(respond::with_body(StatusCode::OK, exposition::CONTENT_TYPE, body));
    }
    if let Some(remote) = state.aggregation.of_openapi(path)
        && !documents::is_converted(state, &remote.group, &remote.version)
    {
        let asked = parts.uri.path_and_query().map_or(path, |asked| asked.as_str());
        return aggregation::openapi::serve(&remote, &state.outbound, asked, &parts.headers).await;
    }
    if let Some(answer) = documents::serve(state, path, parts)? {
        return Ok(answer);
    }
    let document = match path {
        "/" => root_paths(state),
        "/version" => api::version::info(),
        _ => return Err(Status::unknown_resource()),
    };
    let accept = Accept::negotiate(&parts.headers, Offer::default())?;
    respond::value(
        StatusCode::OK,
        &document,
        accept.format,
        query.pretty(&parts.headers) || path == "/version",
    )
}

fn root_paths(state: &State) -> Value {
    let catalog = state.catalog();
    let mut paths = vec!["/api".to_owned(), "/apis".to_owned()];
    for group in catalog.registry.groups() {
        if group.name.is_empty() {
            paths.extend(group.versions.iter().map(|version| format!("/api/{version}")));
        } else {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
        }
    }
    paths.extend(
        [
            "/flagz",
            "/healthz",
            "/livez",
            "/metrics",
            "/metrics/slis",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/statusz",
            "/version",
        ]
        .map(str::to_owned),
    );
    paths.sort();
    json!({"paths": paths})
}
