//! Passing a request on to the server of its group.
//!
//! The far end trusts this server by its client certificate and believes the headers that say who asks; so nothing of
//! the kind that the client sent may get through.

use std::net::IpAddr;
use std::time::Duration;

use api::status::Status;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};

use super::Remote;
use crate::UserInfo;
use crate::authn::{bearer, impersonate};
use crate::outbound::Outbound;
use crate::proxy::relay;
use crate::request::RequestInfo;
use crate::server::body::{RequestBody, ResponseBody};

const PREFIX: &str = "x-remote-";
const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// As long as a request may take until its answer begins; as upstream's requests in general.
const LIMIT: Duration = Duration::from_secs(60);

/// The address of the client, for those that a request is passed on to.
#[derive(Clone, Copy, Debug)]
pub struct From(pub IpAddr);

/// Passes on a request of `user`, who may make it as far as this server is concerned.
pub async fn serve(
    remote: &Remote,
    outbound: &Outbound,
    user: &UserInfo,
    info: &RequestInfo,
    parts: http::request::Parts,
    body: RequestBody,
) -> Result<Response<ResponseBody>, Status> {
    if !remote.is_available() {
        return Err(Status::service_unavailable("service unavailable"));
    }
    let mut request = Request::from_parts(parts, body);
    let protocol =
        request.headers().get(UPGRADE).cloned().filter(|_| relay::wants_upgrade(request.headers()));
    let client = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
    let request = outgoing(remote, user, request, protocol)?;
    let sending = outbound.send(&remote.to, request);
    let answer = match info.is_long_running() || client.is_some() {
        true => sending.await,
        false => tokio::time::timeout(LIMIT, sending).await.map_err(|_| {
            Status::timeout("request did not complete within the allotted timeout".to_owned(), 0)
        })?,
    };
    let answer = answer
        .map_err(|error| Status::service_unavailable(format!("error trying to reach service: {error}")))?;
    match client {
        Some(client) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => Ok(relay::join(client, answer)),
        // A client that followed would take its credentials to wherever the server says.
        _ if answer.status().is_redirection() && answer.status() != StatusCode::NOT_MODIFIED => {
            let why = "the backend attempted to redirect this request, which is not permitted";
            Err(Status::failure(502, "InternalError", why))
        }
        _ => Ok(relay::relayed(answer)),
    }
}

/// The request as the far end gets it.
fn outgoing(
    remote: &Remote,
    user: &UserInfo,
    request: Request<RequestBody>,
    protocol: Option<HeaderValue>,
) -> Result<Request<RequestBody>, Status> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(parts.method)
        .uri(remote.to.url(path))
        .body(body)
        .map_err(|error| Status::bad_request(format!("cannot be passed on: {error}")))?;
    let mut headers = parts.headers;
    relay::strip_hop_by_hop(&mut headers);
    headers.remove(HOST);
    bearer::strip(&mut headers);
    impersonate::strip(&mut headers);
    identify(&mut headers, user);
    if let Some(From(address)) = parts.extensions.get() {
        // A listener for both families shows IPv4 clients as IPv6 ones.
        let address = address.to_canonical();
        let before = headers.get(&FORWARDED).and_then(|value| value.to_str().ok());
        let all = before.map_or_else(|| address.to_string(), |before| format!("{before}, {address}"));
        headers.insert(FORWARDED, HeaderValue::try_from(all).map_err(Status::internal)?);
    }
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// Says who asks, and nothing else of that kind.
fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let given: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in given {
        headers.remove(name);
    }
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
    headers.extend(value(&user.name).map(|value| (USER, value)));
    if !user.uid.is_empty() {
        headers.extend(value(&user.uid).map(|value| (UID, value)));
    }
    for group in &user.groups {
        if let Some(value) = value(group) {
            headers.append(GROUP, value);
        }
    }
    for (key, values) in &user.extra {
        let Ok(name) = HeaderName::try_from(format!("{PREFIX}extra-{}", escaped(key))) else { continue };
        for text in values {
            if let Some(value) = value(text) {
                headers.append(name.clone(), value);
            }
        }
    }
}

/// Keys become parts of header names: what cannot stand there is percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// As whom this server asks on its own behalf.
pub fn own_headers() -> Vec<(HeaderName, HeaderValue)> {
    vec![
        (USER, HeaderValue::from_static("system:kube-aggregator")),
        (GROUP, HeaderValue::from_static("system:masters")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_server_says_who_asks() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-group", HeaderValue::from_static("system:masters"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        let mut user = UserInfo::authenticated("alice", &["dev"]);
        user.extra.insert("example.com/x".to_owned(), vec!["1".to_owned()]);
        identify(&mut headers, &user);
        assert_eq!(headers["x-remote-user"], "alice");
        let groups: Vec<_> = headers.get_all("x-remote-group").iter().collect();
        assert_eq!(groups, ["dev", "system:authenticated"]);
        assert_eq!(headers["x-remote-extra-example.com%2fx"], "1");
        assert!(!headers.contains_key("x-remote-extra-a"));
    }
}
