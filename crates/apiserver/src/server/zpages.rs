//! `/statusz` and `/flagz`: what this server is, and how it was started.

use api::status::Status;
use api::version::GIT_VERSION;
use api::zpages::{self, Form};
use http::StatusCode;
use http::header::{ACCEPT, HeaderMap};
use jiff::Timestamp;

use super::body::ResponseBody;
use super::respond::{self, Answer};
use crate::state::State;

const NAME: &str = "kube-apiserver";
const ACCEPTED: &[&str] = &["text/plain", "application/json"];
/// Where else something is told of the server.
const PATHS: &[&str] = &["/flagz", "/healthz", "/livez", "/metrics", "/metrics/slis", "/readyz", "/version"];

/// Nothing where the path is another one.
pub fn serve(state: &State, path: &str, headers: &HeaderMap) -> Option<Result<Answer, Status>> {
    match path {
        "/statusz" => Some(page(headers, "Statusz", |form| {
            let started = state.started;
            let told = zpages::Status { name: NAME, started, version: GIT_VERSION, paths: PATHS };
            zpages::status(&told, Timestamp::now(), form)
        })),
        "/flagz" => Some(page(headers, "Flagz", |form| zpages::flags(NAME, &state.config.flags, form))),
        _ => None,
    }
}

fn page(headers: &HeaderMap, kind: &str, page: impl Fn(&Form) -> String) -> Result<Answer, Status> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = Form::asked(accept, kind).ok_or_else(|| Status::not_acceptable(ACCEPTED))?;
    let text = page(&form);
    Ok(match form {
        Form::Text => respond::text(StatusCode::OK, text),
        Form::Json { .. } => respond::with_body(StatusCode::OK, "application/json", ResponseBody::full(text)),
    })
}
