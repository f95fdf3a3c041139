//! Making answers.

use api::codec::{Format, protobuf};
use api::status::Status;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::Value;

use super::body::ResponseBody;
use crate::negotiate::Encoding;

pub type Answer = Response<ResponseBody>;

pub const WARNING: HeaderName = HeaderName::from_static("warning");

/// An answer with a body of a known type.
pub fn with_body(code: StatusCode, content_type: &'static str, body: ResponseBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Answers differ by user and age at once.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = with_body(code, "text/plain; charset=utf-8", ResponseBody::full(text));
    answer.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

/// In the encoding that was negotiated; JSON indented on request.
pub fn value(code: StatusCode, value: &Value, format: Encoding, pretty: bool) -> Result<Answer, Status> {
    let body = match format {
        Encoding::Json if pretty => {
            let mut text = serde_json::to_vec_pretty(value).map_err(Status::internal)?;
            text.push(b'\n');
            text.into()
        }
        Encoding::Json => api::codec::encode(Format::Json, value).map_err(Status::internal)?,
        Encoding::Yaml => api::codec::encode(Format::Yaml, value).map_err(Status::internal)?,
        Encoding::Protobuf => protobuf::encode(value).map_err(Status::internal)?,
    };
    Ok(with_body(code, format.media_type(), ResponseBody::full(body)))
}

/// A failure, in the encoding that the client reads.
pub fn status(status: &Status, format: Encoding) -> Answer {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Plain text and numbers: cannot fail to be written as JSON, in upstream's order of fields.
    let json = || {
        let body = serde_json::to_vec(status).unwrap_or_default();
        with_body(code, "application/json", ResponseBody::full(body))
    };
    let mut answer = match format {
        Encoding::Json => json(),
        other => value(code, &status.to_value(), other, false).unwrap_or_else(|_| json()),
    };
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        answer.headers_mut().insert(RETRY_AFTER, retry.into());
    }
    answer
}

/// Adds a `Warning` header for each warning, as kubectl shows them.
pub fn warn(answer: &mut Answer, warnings: &[String]) {
    /// All warnings of one answer together.
    const MAX_TOTAL: usize = 4096;
    /// One warning, where they do not all fit.
    const MAX_ONE: usize = 256;
    let long = warnings.iter().map(String::len).sum::<usize>() > MAX_TOTAL;
    let mut total = 0;
    for warning in warnings {
        let mut quoted = String::with_capacity(warning.len() + 8);
        quoted.push_str("299 - \"");
        let limit = if long { MAX_ONE } else { usize::MAX };
        for character in warning.chars().take(limit).filter(|character| !character.is_control()) {
            if matches!(character, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(character);
        }
        quoted.push('"');
        total += quoted.len();
        if long && total > MAX_TOTAL {
            break;
        }
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            answer.headers_mut().append(WARNING, value);
        }
    }
}
