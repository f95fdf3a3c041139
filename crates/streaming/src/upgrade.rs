//! Which transport and which protocol a request asks for, and the 101 that grants it.

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// Why a request is not upgraded.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Rejection {
    #[error("Upgrade request required")]
    NotAnUpgrade,
    #[error("unable to upgrade: no protocol of the client is supported: {0:?}")]
    NoProtocol(Vec<String>),
    #[error("the WebSocket request has no key")]
    NoKey,
    #[error("invalid port: {0}")]
    Port(String),
}

impl Rejection {
    pub fn status(&self) -> StatusCode {
        match self {
            Rejection::NoProtocol(_) => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// What carries the streams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transport {
    Spdy,
    WebSocket,
}

/// What is sent before the streams begin.
pub type Answer = Response<Full<Bytes>>;

/// What was agreed on.
pub(crate) struct Agreed<P> {
    pub transport: Transport,
    pub protocol: P,
    pub response: Answer,
}

/// Chooses the first protocol of `supported` (which begins with the best) that the client offers too.
pub(crate) fn agree<P: Copy>(
    headers: &HeaderMap,
    supported: &[(Transport, &str, P)],
) -> Result<Agreed<P>, Rejection> {
    let is = |value: &str| {
        headers.get_all(UPGRADE).iter().any(|v| v.to_str().is_ok_and(|v| v.eq_ignore_ascii_case(value)))
    };
    let (transport, header) = if is("websocket") {
        (Transport::WebSocket, SEC_WEBSOCKET_PROTOCOL.as_str())
    } else if is("SPDY/3.1") {
        (Transport::Spdy, STREAM_PROTOCOL)
    } else {
        return Err(Rejection::NotAnUpgrade);
    };
    let offered: Vec<&str> = headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let fits = |(t, name, _): &&(Transport, &str, P)| *t == transport && offered.contains(name);
    // A client that names none gets the oldest, as before there were names.
    let silent =
        |(t, name, _): &&(Transport, &str, P)| *t == transport && name.is_empty() && offered.is_empty();
    let (_, name, protocol) = supported
        .iter()
        .find(|s| fits(s) || silent(s))
        .ok_or_else(|| Rejection::NoProtocol(offered.iter().map(|s| (*s).to_owned()).collect()))?;

    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match transport {
        Transport::Spdy => {
            answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        }
        Transport::WebSocket => {
            let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Rejection::NoKey)?;
            let accept =
                HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| Rejection::NoKey)?;
            answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
    if let (false, Ok(name)) = (name.is_empty(), HeaderValue::try_from(*name)) {
        let header = match transport {
            Transport::Spdy => http::HeaderName::from_static(STREAM_PROTOCOL),
            Transport::WebSocket => SEC_WEBSOCKET_PROTOCOL,
        };
        answer.insert(header, name);
    }
    Ok(Agreed { transport, protocol: *protocol, response })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPPORTED: &[(Transport, &str, u8)] = &[
        (Transport::Spdy, "v4", 4),
        (Transport::Spdy, "", 1),
        (Transport::WebSocket, "v5", 5),
        (Transport::WebSocket, "v4", 4),
    ];

    fn agreed(headers: &[(&'static str, &'static str)]) -> Result<u8, Rejection> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        agree(&map, SUPPORTED).map(|agreed| {
            assert_eq!(agreed.response.status(), 101);
            agreed.protocol
        })
    }

    #[test]
    fn the_best_common_protocol_is_chosen() {
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(
            agreed(&[("upgrade", "SPDY/3.1"), (STREAM_PROTOCOL, "v9"), (STREAM_PROTOCOL, "v4")]),
            Ok(4)
        );
        assert_eq!(agreed(&[("upgrade", "SPDY/3.1")]), Ok(1));
        assert_eq!(agreed(&[("upgrade", "WebSocket"), ("sec-websocket-protocol", "v4, v5"), key]), Ok(5));
        assert_eq!(
            agreed(&[("upgrade", "websocket"), ("sec-websocket-protocol", "v4")]),
            Err(Rejection::NoKey)
        );
        assert_eq!(agreed(&[]), Err(Rejection::NotAnUpgrade));
        assert_eq!(
            agreed(&[("upgrade", "websocket"), ("sec-websocket-protocol", "v1"), key]),
            Err(Rejection::NoProtocol(vec!["v1".into()]))
        );
    }
}
