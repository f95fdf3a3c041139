//! The one path of every request: who asks, for what, may they, then the handler.
//!
//! Requests from sockets and from callers in this process differ only in where their identity comes from.
//! Upstream's order of steps: authentication, audit, impersonation, priority and fairness, authorization.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::status::Status;
use futures::FutureExt;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tracing::{error, warn};

use super::body::RequestBody;
use super::respond::{self, Answer};
use super::{gzip, system};
use crate::UserInfo;
use crate::aggregation;
use crate::audit::{self, Origin, Trail};
use crate::authn::impersonate;
use crate::authz::{self, Decision};
use crate::flow_control::{Classified, Ticket, work};
use crate::handlers;
use crate::metrics::{Manner, Took};
use crate::negotiate::Accept;
use crate::request::{Attributes, RequestInfo, query_pairs};
use crate::state::State;

/// Who a request comes from.
#[derive(Clone)]
pub enum Identity {
    /// Whoever its credentials say: the client certificates of its connection, or its headers.
    Connection(Arc<Peer>),
    /// A caller in this process.
    Known(UserInfo),
}

/// The far end of a connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// Of a key that the far end has; whose they are, is for authentication to find out.
    pub certificates: Vec<CertificateDer<'static>>,
    pub address: Option<IpAddr>,
}

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// What is learned of a request on its way, for its answer.
#[derive(Default)]
struct Course {
    trail: Option<Arc<Trail>>,
    schema: Option<HeaderValue>,
    level: Option<HeaderValue>,
    /// For its turn.
    waited: Duration,
    /// What the client is told beside the reason of a failure.
    warnings: Vec<String>,
    /// There were too many others.
    turned_away: bool,
}

/// Answers a request, whatever happens.
pub async fn serve(state: Arc<State>, identity: Identity, request: Request<RequestBody>) -> Answer {
    let begun = Instant::now();
    let info =
        RequestInfo::parse(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
    let audit_id = audit_id(&request);
    let accept_gzip = gzip::accepted(request.headers());
    let accept = request.headers().get(ACCEPT).cloned();
    let manner = manner(&request);
    let mut course = Course::default();
    let connected = matches!(identity, Identity::Connection(_));
    let working = respond(&state, identity, &info, request, &audit_id, &mut course);
    let worked = AssertUnwindSafe(working).catch_unwind().await;
    let mut failure = None;
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
            let mut answer = respond::status(failure.insert(status), Accept::of_failure(accept.as_ref()));
            respond::warn(&mut answer, &course.warnings);
            answer
        }
        Err(_) => {
            error!(verb = info.verb, path = info.path, "the handler of a request panicked");
            let status = Status::internal("the handler of this request panicked; see the server's log");
            if let Some(trail) = course.trail.take() {
                trail.panicked(status.code).await;
            }
            respond::status(&status, Accept::of_failure(accept.as_ref()))
        }
    };
    if let Some(trail) = course.trail {
        answer = trail.answered(answer, failure.as_ref(), info.is_long_running()).await;
    }
    if info.is_long_running() {
        let going = state.metrics.lasts(&info);
        answer = answer.map(|body| body.holding(going));
        if connected && info.verb == "watch" {
            answer = answer.map(|body| body.until(state.draining.clone().cancelled_owned()));
        }
    } else if accept_gzip {
        gzip::compress(&mut answer);
    }
    let headers = [(AUDIT_ID, Some(audit_id)), (FLOW_SCHEMA, course.schema), (PRIORITY_LEVEL, course.level)];
    for (name, value) in headers {
        if let Some(value) = value {
            answer.headers_mut().insert(name, value);
        }
    }
    if course.turned_away {
        state.metrics.terminated(&info, manner, answer.status().as_u16());
    }
    let took = Took { whole: begun.elapsed(), waited: course.waited };
    state.metrics.answered(&info, manner, answer.status().as_u16(), took, answer.body().known_length());
    answer
}

/// What the metrics tell of it.
fn manner(request: &Request<RequestBody>) -> Manner {
    let query = request.uri().query().unwrap_or_default();
    let content = request.headers().get(CONTENT_TYPE);
    Manner {
        dry_run: query.contains("dryRun=") && query_pairs(query).any(|(key, _)| key == "dryRun"),
        applies: content.is_some_and(|content| content.as_bytes().starts_with(b"application/apply-patch")),
    }
}

/// The client's own id where it sent a sane one.
fn audit_id(request: &Request<RequestBody>) -> HeaderValue {
    let given = request.headers().get(AUDIT_ID).filter(|id| !id.is_empty() && id.len() <= 64);
    given.cloned().unwrap_or_else(|| {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

async fn respond(
    state: &Arc<State>,
    identity: Identity,
    info: &RequestInfo,
    request: Request<RequestBody>,
    audit_id: &HeaderValue,
    course: &mut Course,
) -> Result<Answer, Status> {
    let (mut parts, body) = request.into_parts();
    // Whoever else has a part in it records it under the same id.
    parts.headers.insert(AUDIT_ID, audit_id.clone());
    let (user, address, may_impersonate) = match identity {
        Identity::Connection(peer) => {
            let begun = Instant::now();
            let user = state.authenticator.authenticate(&parts, info, &peer.certificates).await;
            let name = user.as_ref().ok().map(|user| user.name.as_str());
            state.metrics.access.authenticated(name, begun.elapsed());
            (user, peer.address, true)
        }
        Identity::Known(user) => (Ok(user), None, false),
    };
    if let Some(audit) = &state.audit {
        let origin = Origin {
            audit_id: audit_id.to_str().unwrap_or_default(),
            uri: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers: &parts.headers,
            peer: address,
            received: Timestamp::now(),
        };
        course.trail = audit.open(info, user.as_ref().ok(), &origin);
    }
    let user = user?;
    if let Some(address) = address {
        parts.extensions.insert(aggregation::proxy::From(address));
    }
    if let Some(trail) = &course.trail {
        trail.received().await?;
    }
    let trail = course.trail.clone();
    audit::following(trail, admitted(state, user, may_impersonate, info, parts, body, course)).await
}

/// The steps that are recorded.
async fn admitted(
    state: &Arc<State>,
    mut user: UserInfo,
    may_impersonate: bool,
    info: &RequestInfo,
    parts: http::request::Parts,
    body: RequestBody,
    course: &mut Course,
) -> Result<Answer, Status> {
    if may_impersonate
        && let Some(other) = impersonate::impersonated(&state.authorizer, &user, &parts.headers).await?
    {
        audit::impersonated(&other);
        user = other;
    }
    let _in_flight = state.in_flight.enter(info, &user).inspect_err(|_| course.turned_away = true)?;
    // A watch needs its seats only until it begins: they are given back when this returns.
    let waiting = Instant::now();
    let ticket = take_turn(state, info, &user, &parts, course).await;
    course.waited = waiting.elapsed();
    let _ticket = ticket.inspect_err(|_| course.turned_away = true)?;
    authorized(state, &user, info, course.trail.is_some()).await?;
    if let Some(remote) = state.aggregation.of_path(&info.path) {
        return aggregation::proxy::serve(&remote, &state.outbound, &user, info, parts, body).await;
    }
    if info.is_resource {
        handlers::serve(state.clone(), info.clone(), user, parts, body, &mut course.warnings).await
    } else {
        system::serve(state, info, &parts).await
    }
}

/// Waits until the server has time for the request. Streams take their time anyway, and do not count.
async fn take_turn(
    state: &State,
    info: &RequestInfo,
    user: &UserInfo,
    parts: &http::request::Parts,
    course: &mut Course,
) -> Result<Option<Ticket>, Status> {
    if !state.config.priority_and_fairness || (info.is_long_running() && info.verb != "watch") {
        return Ok(None);
    }
    let seats = |most| {
        let stored = || {
            let catalog = state.catalog();
            catalog.get(&info.group, &info.version, &info.resource).map(|served| served.cache.len())
        };
        work::seats(info, parts.uri.query().unwrap_or_default(), stored, most)
    };
    let entered = state.flow_control.enter(info, user, seats).await;
    let (schema, level) = match &entered {
        Ok(ticket) => ticket.uids(),
        Err(rejected) => rejected.uids(),
    };
    (course.schema, course.level) = (schema.cloned(), level.cloned());
    entered.map(Some).map_err(|rejected| rejected.status())
}

async fn authorized(
    state: &State,
    user: &UserInfo,
    info: &RequestInfo,
    recorded: bool,
) -> Result<(), Status> {
    let attributes = Attributes { user, request: info };
    let begun = Instant::now();
    let decision = state.authorizer.authorize(&attributes).await;
    state.metrics.access.authorized(decision.is_allowed(), begun.elapsed());
    if recorded {
        let (word, reason) = match &decision {
            Decision::Allow { reason } => ("allow", reason.to_string()),
            Decision::Deny { reason } => ("forbid", reason.clone()),
        };
        audit::annotate("authorization.k8s.io/decision", word);
        audit::annotate("authorization.k8s.io/reason", reason);
    }
    match decision {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { reason } => Err(authz::forbidden(&attributes, &reason)),
    }
}
