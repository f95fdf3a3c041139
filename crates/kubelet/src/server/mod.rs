//! The kubelet's HTTPS API on port 10250: what `kubectl logs`, `exec`, `attach`, `port-forward` and `top` end at.
//!
//! [`tls`] accepts, [`auth`] decides who may, [`routes`] which handler answers. Handlers are one file each.

mod auth;
mod cadvisor;
mod checkpoint;
mod health;
mod healthz;
mod log_file;
pub mod log_format;
mod logs;
mod manager_metrics;
pub mod metrics;
mod node_logs;
mod node_metrics;
mod pages;
mod pressure;
mod rates;
mod resource_metrics;
mod routes;
pub mod stats;
mod streaming;
mod summary;
mod tls;
mod volume_metrics;

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serving::tls::BoxError;

pub use healthz::healthz;
pub use serving::ServeError;
pub use tls::serve;

use crate::context::Context;

pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What handlers work with.
#[derive(Clone)]
pub struct Server {
    pub ctx: Arc<Context>,
    auth: Arc<auth::NodeAuthority>,
    rates: Arc<rates::Rates>,
    health: Arc<health::Health>,
}

impl Server {
    pub fn new(ctx: Arc<Context>) -> Self {
        let auth = Arc::new(auth::NodeAuthority::new(ctx.client.clone(), &ctx.options));
        Self { auth, rates: Arc::default(), health: Arc::default(), ctx }
    }
}

fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A plain answer. Bodies of errors end in a newline, as Go's do.
fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(text.into()));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn error(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    text(status, message.into() + "\n")
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(full(bytes));
            let kind = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    }
}
