//! Sending a request on, and bringing back the answer or, after an upgrade, the bytes.

use api::status::Status;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::backend::{BackendError, Connector, authority};
use super::target::{Purpose, Target};
use crate::authn::{bearer, impersonate};
use crate::server::body::{RequestBody, ResponseBody};

/// Of an error's text so much is passed on.
const MAX_ERROR: usize = 64 * 1024;

/// Relays `request` to `target`.
pub async fn relay(
    connector: &Connector,
    target: Target,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let client = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let outgoing = outgoing(&target, request, client.is_some())?;
    let method = outgoing.method().clone();
    let answer =
        connector.send(&target, outgoing).await.map_err(|error| unreachable(&target, &method, &error))?;
    match client {
        Some(client) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => Ok(join(client, answer)),
        // Kubelets tell errors in plain text, clients of logs and streams read a Status.
        _ if target.purpose != Purpose::Proxy && !answer.status().is_success() => Err(error_of(answer).await),
        _ => Ok(relayed(answer)),
    }
}

/// In upstream's words.
pub fn unreachable(target: &Target, method: &Method, error: &BackendError) -> Status {
    match target.purpose {
        Purpose::Proxy => Status::service_unavailable(format!("error trying to reach service: {error}")),
        Purpose::Stream => Status::internal(format!("error dialing backend: {error}")),
        Purpose::Log => {
            let (method, at, path) = (title(method.as_str()), authority(target), &target.path);
            Status::internal(format!("{method} \"https://{at}{path}\": {error}"))
        }
    }
}

/// `Get`, as upstream's messages begin.
fn title(method: &str) -> String {
    let (first, rest) = method.split_at(method.len().min(1));
    format!("{first}{}", rest.to_ascii_lowercase())
}

pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The request as the far end gets it: nothing in it tells how this server knows its user.
fn outgoing(
    target: &Target,
    request: Request<RequestBody>,
    upgrade: bool,
) -> Result<Request<RequestBody>, Status> {
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    let protocol = headers.get(UPGRADE).cloned();
    strip_hop_by_hop(&mut headers);
    bearer::strip(&mut headers);
    impersonate::strip(&mut headers);
    let host = HeaderValue::try_from(authority(target)).map_err(Status::internal)?;
    headers.insert(HOST, host);
    if let Some(protocol) = protocol.filter(|_| upgrade) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    let mut outgoing = Request::builder()
        .method(parts.method)
        .uri(target.path.as_str())
        .body(body)
        .map_err(|error| Status::bad_request(format!("cannot be relayed: {error}")))?;
    *outgoing.headers_mut() = headers;
    Ok(outgoing)
}

/// Removes what concerns one connection only, be it listed here or by the Connection header itself.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    const ALWAYS: [HeaderName; 9] = [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        HeaderName::from_static("proxy-connection"),
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    let listed: Vec<HeaderName> =
        connection_options(headers).filter_map(|option| HeaderName::try_from(option).ok()).collect();
    for name in ALWAYS.iter().chain(&listed) {
        headers.remove(name);
    }
}

/// Answers the client with the far end's upgrade, and copies bytes both ways from then on.
pub fn join(client: OnUpgrade, mut answer: Response<Incoming>) -> Response<ResponseBody> {
    let server = hyper::upgrade::on(&mut answer);
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    tokio::spawn(async move {
        let both = tokio::try_join!(client, server);
        let copied = match both {
            Ok((client, server)) => {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            }
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = copied {
            debug!(%error, "an upgraded stream ended");
        }
    });
    response
}

pub fn relayed(answer: Response<Incoming>) -> Response<ResponseBody> {
    let (mut parts, body) = answer.into_parts();
    let length = parts.headers.get(CONTENT_LENGTH).cloned();
    strip_hop_by_hop(&mut parts.headers);
    if let Some(length) = length {
        parts.headers.insert(CONTENT_LENGTH, length);
    }
    parts.version = http::Version::default();
    Response::from_parts(parts, ResponseBody::relayed(body))
}

/// What a kubelet says in plain text (or as a Status) is told as a Status.
pub async fn error_of(answer: Response<Incoming>) -> Status {
    let code = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), MAX_ERROR).collect().await;
    let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
    let told = serde_json::from_slice(&bytes).ok().as_ref().and_then(Status::from_value);
    told.unwrap_or_else(|| plain_error(code, String::from_utf8_lossy(&bytes).trim()))
}

fn plain_error(code: StatusCode, text: &str) -> Status {
    let text = match text {
        "" => code.canonical_reason().unwrap_or("the node gave no reason"),
        text => text,
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status::failure(404, "NotFound", text),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Status::internal(format!("the node refused this server's own credentials: {text}"))
        }
        code if code.is_client_error() => Status::failure(code.as_u16(), "BadRequest", text),
        _ => Status::internal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Scheme;
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn empty() -> RequestBody {
        http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
    }

    fn to_kubelet() -> Target {
        Target {
            scheme: Scheme::Kubelet,
            host: "fd00::7".into(),
            port: 10250,
            path: "/exec/ns/p/c?command=x".into(),
            purpose: Purpose::Stream,
        }
    }

    #[test]
    fn credentials_stay_here() {
        let mut request =
            Request::post("/api/v1/namespaces/ns/pods/p/exec").body(empty()).expect("a request");
        *request.headers_mut() = headers(&[
            ("authorization", "Bearer secret"),
            ("impersonate-user", "bob"),
            ("connection", "Upgrade, x-private"),
            ("upgrade", "SPDY/3.1"),
            ("x-private", "1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("host", "api"),
        ]);
        let sent = outgoing(&to_kubelet(), request, true).expect("relayed");
        assert_eq!(sent.uri(), "/exec/ns/p/c?command=x");
        let expected = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("host", "[fd00::7]:10250"),
        ]);
        assert_eq!(*sent.headers(), expected);
    }

    #[test]
    fn upgrades() {
        let check = |pairs: &[(&'static str, &'static str)], expected: bool| {
            assert_eq!(wants_upgrade(&headers(pairs)), expected, "{pairs:?}");
        };
        check(&[("connection", "upgrade"), ("upgrade", "websocket")], true);
        check(&[("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")], true);
        check(&[("upgrade", "websocket")], false);
        check(&[("connection", "upgrade")], false);
    }

    #[test]
    fn errors_of_kubelets() {
        let check = |code: u16, text: &str, expected: (u16, &str, &str)| {
            let status = plain_error(StatusCode::from_u16(code).expect("a code"), text);
            assert_eq!((status.code, &*status.reason, &*status.message), expected);
        };
        check(400, "container not running", (400, "BadRequest", "container not running"));
        check(404, "pod not found", (404, "NotFound", "pod not found"));
        check(500, "boom", (500, "InternalError", "Internal error occurred: boom"));
        check(
            403,
            "no",
            (
                500,
                "InternalError",
                "Internal error occurred: the node refused this server's own credentials: no",
            ),
        );
    }
}
