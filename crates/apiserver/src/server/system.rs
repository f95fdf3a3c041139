//! Paths that name no resource: discovery, OpenAPI, version, health, metrics.

use std::sync::Arc;

use api::status::Status;
use http::StatusCode;
use serde_json::{Value, json};

use super::body::ResponseBody;
use super::documents;
use super::respond::{self, Answer};
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
    let health = ["/healthz", "/livez", "/readyz"].into_iter().find(|check| path.starts_with(check));
    if let Some(check) = health {
        return health_check(state, check, path, &query).await;
    }
    if let Some((content_type, document)) = oidc::document(&state.issuer, path) {
        let body = serde_json::to_vec(&document).map_err(Status::internal)?;
        return Ok(respond::with_body(StatusCode::OK, content_type, ResponseBody::full(body)));
    }
    if path == "/metrics" {
        let text = state.metrics.text(state);
        let body = ResponseBody::full(text);
        return Ok(respond::with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body));
    }
    if let Some(remote) = state.aggregation.of_openapi(path) {
        let asked = parts.uri.path_and_query().map_or(path, |asked| asked.as_str());
        return aggregation::openapi::serve(&remote, &state.outbound, asked, &parts.headers).await;
    }
    if let Some(answer) = documents::serve(state, path, parts)? {
        return Ok(answer);
    }
    let document = match path {
        "/" => root_paths(state),
        "/version" => version(),
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

/// What `kubectl version` shows and clients decide on.
fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": concat!("v1.36.0+corten-", env!("CARGO_PKG_VERSION")),
        "gitCommit": option_env!("CORTEN_GIT_COMMIT").unwrap_or("unknown"),
        "gitTreeState": "clean",
        "buildDate": option_env!("CORTEN_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("linux/{}", arch()),
    })
}

/// As Go calls it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
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
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    paths.sort();
    json!({"paths": paths})
}

/// Each check with a name, so that `?verbose` can tell and `/livez/<name>` ask for one.
async fn health_check(state: &State, root: &str, path: &str, query: &Query) -> Result<Answer, Status> {
    let store_answers = state.store.check().await.is_ok();
    let mut checks = vec![
        ("ping", true),
        ("etcd", store_answers),
        ("informer-sync", true),
        ("poststarthook/rbac/bootstrap-roles", state.is_ready()),
        ("shutdown", root != "/readyz" || !state.is_stopping()),
    ];
    // Without its keys a server is of no use, but starting it anew does not bring them back.
    if let Some(health) = state.caches.encryption.health().filter(|_| root != "/livez") {
        checks.push(("kms-providers", health.is_ok()));
    }
    if let Some(name) = path.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')) {
        let (_, good) =
            checks.into_iter().find(|(known, _)| *known == name).ok_or_else(Status::unknown_resource)?;
        return Ok(match good {
            true => respond::text(StatusCode::OK, "ok"),
            false => respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{name} check failed\n")),
        });
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut report = String::new();
    let mut good = true;
    for (name, passed) in checks {
        // A server that is not ready yet is alive all the same.
        let passed = passed || (root != "/readyz" && name.starts_with("poststarthook"));
        let line = match (excluded.contains(&name), passed) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (false, true) => format!("[+]{name} ok\n"),
            (false, false) => {
                good = false;
                format!("[-]{name} failed: reason withheld\n")
            }
        };
        report.push_str(&line);
    }
    let check = root.trim_start_matches('/');
    if !good {
        report.push_str(&format!("{check} check failed\n"));
        return Ok(respond::text(StatusCode::INTERNAL_SERVER_ERROR, report));
    }
    if query.flag("verbose").unwrap_or(false) {
        report.push_str(&format!("{check} check passed\n"));
        return Ok(respond::text(StatusCode::OK, report));
    }
    Ok(respond::text(StatusCode::OK, "ok"))
}
