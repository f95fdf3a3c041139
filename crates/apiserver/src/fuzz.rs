//! Fuzz targets: what anybody who can open a connection may send, before anything is known of him.

use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::handlers::list::Continue;
use crate::negotiate::{Accept, Offer};
use crate::options::{DeleteOptions, ListOptions, Query, WriteOptions, go_duration};
use crate::request::RequestInfo;
use crate::token::jwt::{Unverified, unverified_issuer};

/// Any text as path, query, continue token and media types.
pub fn requests(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, text));
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let info = RequestInfo::parse(&method, path, query);
        let _ = (info.object_name(), info.field("metadata.name"), info.is_mutating());
    }
    let query = Query::parse(Some(query));
    for watch in [false, true] {
        let _ = ListOptions::parse(&query, watch);
    }
    for kind in ["CreateOptions", "UpdateOptions", "PatchOptions"] {
        let _ = WriteOptions::parse(&query, kind).map(|options| options.to_value(kind));
    }
    let body = serde_json::from_slice::<Value>(bytes).ok();
    let _ = DeleteOptions::parse(&query, body.as_ref()).map(|options| options.to_value());
    let _ = Continue::decode(text);
    let _ = go_duration(text);
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let headers = HeaderMap::from_iter([(http::header::ACCEPT, value)]);
        let _ = Accept::negotiate(&headers, Offer::default());
    }
}

/// Any text as a bearer token.
pub fn tokens(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = unverified_issuer(text);
    let _ = Unverified::parse(text);
    let _ = crate::authn::bootstrap::Token::parse(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    #[test]
    fn requests_do_no_harm() {
        fuzzing::drive(
            &[
                b"/apis/apps/v1/namespaces/a/deployments/b/scale?watch=1&fieldSelector=metadata.name%3Da&limit=5",
                b"/api/v1/pods?labelSelector=a+in+(b,c)&resourceVersion=5&resourceVersionMatch=NotOlderThan&continue=eyJ2Ijoi",
                b"/api/v1/namespaces/a/pods/b/proxy/x%20y//z?dryRun=All&fieldManager=m&fieldValidation=Strict&force=true",
                b"?sendInitialEvents=true&allowWatchBookmarks=1&timeoutSeconds=-9223372036854775808&pretty",
                b"{\"gracePeriodSeconds\":0,\"propagationPolicy\":\"Orphan\",\"preconditions\":{\"uid\":\"u\"}}",
                b"application/json;as=Table;v=v1;g=meta.k8s.io;q=0.5,application/vnd.kubernetes.protobuf,*/*",
                b"eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0",
                b"1h30m5.5s",
            ],
            10_000,
            requests,
        );
    }

    #[test]
    fn tokens_do_no_harm() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let token = [
            part(r#"{"alg":"ES256","kid":"k"}"#),
            part(r#"{"iss":"https://a","sub":"system:serviceaccount:a:b","aud":["c"],"exp":1}"#),
            part("signature"),
        ]
        .join(".");
        fuzzing::drive(&[token.as_bytes(), b"abcdef.0123456789abcdef"], 8000, tokens);
        // What is within the token, as if whoever made it could do more than flip letters.
        let claims = br#"{"iss":"https://a","aud":["c"],"kubernetes.io":{"pod":{"name":"p"}}}"#;
        fuzzing::drive(&[claims], 4000, |claims| {
            let claims = URL_SAFE_NO_PAD.encode(claims);
            tokens(format!("{claims}.{claims}.{claims}").as_bytes());
        });
    }
}
