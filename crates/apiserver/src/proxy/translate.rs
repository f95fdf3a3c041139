//! WebSocket clients of kubelets that speak SPDY alone: the newest protocols of exec, attach and port-forward are
//! translated here ([`streaming::translated`]), as every released kubelet expects.

use std::sync::Arc;

use api::status::Status;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use streaming::{SpdyPeer, Streams, spdy_protocols};
use tracing::debug;

use super::backend::authority;
use super::relay::{error_of, unreachable};
use super::target::Target;
use crate::server::body::{RequestBody, ResponseBody, boxed};
use crate::state::State;

const SPDY: &str = "SPDY/3.1";
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// An exec or attach. The client is told within its streams what keeps it from the process, as upstream does.
pub fn remote_command(
    state: Arc<State>,
    target: Target,
    streams: Streams,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let peer = async move {
        let connected = connect(&state, &target, spdy_protocols::REMOTE_COMMAND).await;
        state.metrics.translated(false, connected.as_ref().map_or_else(|status| status.code, |_| 200));
        let connected = connected.map_err(|status| match status.code {
            // What the kubelet says in its own words.
            500 => status,
            _ => Status::internal(format!("unable to upgrade connection: {}", status.message)),
        });
        connected.map_err(|status| status.to_value())
    };
    let (answer, carry) = streaming::translate_remote_command(request, streams, peer).map_err(refused)?;
    Ok(begin(answer, carry))
}

/// A port-forward: the kubelet is asked first, so that what it refuses is refused.
pub async fn port_forward(
    state: &State,
    target: Target,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let connected = connect(state, &target, spdy_protocols::PORT_FORWARD).await;
    state.metrics.translated(true, connected.as_ref().map_or_else(|status| status.code, |_| 101));
    let peer = connected?;
    let (answer, carry) = streaming::translate_port_forward(request, peer.io).map_err(refused)?;
    Ok(begin(answer, carry))
}

fn refused(rejection: streaming::Rejection) -> Status {
    Status::bad_request(rejection.to_string())
}

fn begin(
    answer: streaming::Answer,
    carry: impl Future<Output = Result<(), streaming::Error>> + Send + 'static,
) -> Response<ResponseBody> {
    tokio::spawn(async move {
        if let Err(error) = carry.await {
            debug!(%error, "a translated stream ended");
        }
    });
    answer.map(|_| ResponseBody::empty())
}

/// A SPDY connection to the kubelet.
async fn connect(
    state: &State,
    target: &Target,
    protocols: &[&'static str],
) -> Result<SpdyPeer<TokioIo<Upgraded>>, Status> {
    let host = HeaderValue::try_from(authority(target)).map_err(Status::internal)?;
    let mut request = Request::post(target.path.as_str())
        .header(HOST, host)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, SPDY)
        .body(boxed(Empty::new()))
        .map_err(Status::internal)?;
    for protocol in protocols {
        request.headers_mut().append(PROTOCOL, HeaderValue::from_static(protocol));
    }
    let method = request.method().clone();
    let answer = state.nodes.connector.send(target, request).await;
    let mut answer = answer.map_err(|error| unreachable(target, &method, &error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(error_of(answer).await);
    }
    let protocol = chosen(&answer, protocols);
    let io = hyper::upgrade::on(&mut answer).await.map_err(Status::internal)?;
    Ok(SpdyPeer { io: TokioIo::new(io), protocol })
}

/// A kubelet that names none has taken the first.
fn chosen(answer: &Response<Incoming>, protocols: &[&str]) -> String {
    let named = answer.headers().get(PROTOCOL).and_then(|value| value.to_str().ok());
    named.or(protocols.first().copied()).unwrap_or_default().to_owned()
}
