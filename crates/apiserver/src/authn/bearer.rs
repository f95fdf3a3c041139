//! Where a bearer token is in a request.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HeaderMap, SEC_WEBSOCKET_PROTOCOL};

use super::AuthnError;

/// Browsers cannot set headers on WebSockets; they send the token as one more protocol with this prefix.
const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The token of the `Authorization` header, or of the WebSocket protocols. Other schemes are not ours to judge.
pub fn token(headers: &HeaderMap) -> Result<Option<String>, AuthnError> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.to_str().map_err(|_| AuthnError::MalformedHeader)?;
        let (scheme, token) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            return match token.trim() {
                "" => Err(AuthnError::MalformedHeader),
                token => Ok(Some(token.to_owned())),
            };
        }
    }
    let Some(encoded) = protocols(headers).find_map(|protocol| protocol.strip_prefix(WEBSOCKET_PREFIX))
    else {
        return Ok(None);
    };
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| AuthnError::MalformedHeader)?;
    String::from_utf8(bytes).map(Some).map_err(|_| AuthnError::MalformedHeader)
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Removes the credentials, so that a request can be relayed to somebody else.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let kept: Vec<&str> =
        protocols(headers).filter(|protocol| !protocol.starts_with(WEBSOCKET_PREFIX)).collect();
    // Parts of a valid header value joined again are one.
    let kept = http::HeaderValue::from_str(&kept.join(", ")).ok();
    if headers.remove(SEC_WEBSOCKET_PROTOCOL).is_some()
        && let Some(kept) = kept.filter(|kept| !kept.is_empty())
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header value"))).collect()
    }

    #[test]
    fn finds_tokens() {
        let check = |pairs: &[(http::HeaderName, &str)], expected: Result<Option<&str>, AuthnError>| {
            let expected = expected.map(|token| token.map(str::to_owned));
            assert_eq!(token(&headers(pairs)), expected, "{pairs:?}");
        };
        check(&[], Ok(None));
        check(&[(AUTHORIZATION, "Bearer abc")], Ok(Some("abc")));
        check(&[(AUTHORIZATION, "bearer   abc ")], Ok(Some("abc")));
        check(&[(AUTHORIZATION, "Bearer")], Err(AuthnError::MalformedHeader));
        check(&[(AUTHORIZATION, "Basic abc")], Ok(None));
        let protocols = "base64url.bearer.authorization.k8s.io.YWJj, v5.channel.k8s.io";
        check(&[(SEC_WEBSOCKET_PROTOCOL, protocols)], Ok(Some("abc")));
        check(
            &[(SEC_WEBSOCKET_PROTOCOL, "base64url.bearer.authorization.k8s.io.!")],
            Err(AuthnError::MalformedHeader),
        );
        check(&[(SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io")], Ok(None));
    }

    #[test]
    fn strips_credentials_only() {
        let protocols = "v5.channel.k8s.io,base64url.bearer.authorization.k8s.io.YWJj, v4.channel.k8s.io";
        let mut all = headers(&[(AUTHORIZATION, "Bearer x"), (SEC_WEBSOCKET_PROTOCOL, protocols)]);
        strip(&mut all);
        assert!(!all.contains_key(AUTHORIZATION));
        assert_eq!(all[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io, v4.channel.k8s.io");
        let mut none = HeaderMap::new();
        strip(&mut none);
        assert!(none.is_empty());
    }
}
