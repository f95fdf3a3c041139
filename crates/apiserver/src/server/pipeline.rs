//! The one path of every request: who asks, for what, may they, then the handler.
//!
//! Requests from sockets and from callers in this process differ only in where their identity comes from.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use api::status::Status;
use futures::FutureExt;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Request};
use rustls_pki_types::CertificateDer;
use tracing::{error, warn};

use super::body::RequestBody;
use super::respond::{self, Answer};
use super::{gzip, system};
use crate::UserInfo;
use crate::authn::impersonate;
use crate::handlers;
use crate::negotiate::Accept;
use crate::request::RequestInfo;
use crate::state::State;

/// Who a request comes from.
#[derive(Clone)]
pub enum Identity {
    /// Whoever its credentials say: the client certificates of its connection, or its headers.
    Connection(Arc<[CertificateDer<'static>]>),
    /// A caller in this process.
    Known(UserInfo),
}

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Answers a request, whatever happens.
pub async fn serve(state: Arc<State>, identity: Identity, request: Request<RequestBody>) -> Answer {
    let begun = Instant::now();
    let info =
        RequestInfo::parse(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
    let audit_id = audit_id(&request);
    let accept_gzip = gzip::accepted(request.headers());
    let accept = request.headers().get(ACCEPT).cloned();
    let worked = AssertUnwindSafe(respond(&state, identity, &info, request)).catch_unwind().await;
    let mut answer = match worked {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => {
            if status.code >= 500 && status.code != 504 {
                warn!(
                    verb = info.verb,
                    path = info.path,
                    code = status.code,
                    message = status.message,
                    "request failed"
                );
            }
            respond::status(&status, Accept::of_failure(accept.as_ref()))
        }
        Err(_) => {
            error!(verb = info.verb, path = info.path, "the handler of a request panicked");
            let status = Status::internal("the handler of this request panicked; see the server's log");
            respond::status(&status, Accept::of_failure(accept.as_ref()))
        }
    };
    if accept_gzip && !info.is_long_running() {
        gzip::compress(&mut answer);
    }
    answer.headers_mut().insert(AUDIT_ID, audit_id);
    state.metrics.answered(&info, answer.status().as_u16(), begun.elapsed());
    answer
}

/// The client's own id where it sent a sane one.
fn audit_id(request: &Request<RequestBody>) -> HeaderValue {
    let given = request.headers().get(AUDIT_ID).filter(|id| !id.is_empty() && id.len() <= 64);
    given.cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

async fn respond(
    state: &Arc<State>,
    identity: Identity,
    info: &RequestInfo,
    request: Request<RequestBody>,
) -> Result<Answer, Status> {
    let (parts, body) = request.into_parts();
    let user = match identity {
        Identity::Connection(certificates) => {
            let user = state.authenticator.authenticate(&parts, &certificates).await?;
            match impersonate::impersonated(&state.authorizer, &user, &parts.headers).await? {
                Some(other) => other,
                None => user,
            }
        }
        Identity::Known(user) => user,
    };
    let _in_flight = state.in_flight.enter(info, &user)?;
    state.authorizer.require(&user, info).await?;
    if info.is_resource {
        handlers::serve(state.clone(), info.clone(), user, parts, body).await
    } else {
        system::serve(state, info, &parts).await
    }
}
