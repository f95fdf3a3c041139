//! Bytes to objects and back: JSON, YAML and [`protobuf`], with duplicate fields noticed and hostile input bounded.
//!
//! What is decoded is a plain [`serde_json::Value`]; types and unknown fields are [`crate::schema`]'s business.

mod decode;
pub mod faults;
pub mod protobuf;
pub(crate) mod wire;

pub use decode::Decoded;

use bytes::Bytes;
use serde_json::Value;

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Json,
    Yaml,
}

/// Bytes that are no object, in the words of kube-apiserver where it has any.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The media type is none that this server reads (HTTP 415).
    #[error("the body of the request was in an unknown format - accepted media types include: {accepted}")]
    UnsupportedMediaType { accepted: String },
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(String),
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
    #[error(transparent)]
    Protobuf(#[from] protobuf::ProtobufError),
    #[error("cannot encode the object as {format:?}: {message}")]
    Encode { format: Format, message: String },
}

/// Media types that request bodies may have.
pub const ACCEPTED: &[&str] = &["application/json", "application/yaml", PROTOBUF];

/// The media type of protobuf, in which clients may send any built-in kind. Whether answers are written in it is up
/// to whoever negotiates: see [`protobuf`].
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

impl Format {
    /// The format of a media type, parameters (`;charset=utf-8`) ignored. An empty one is JSON.
    pub fn of_media_type(media_type: &str) -> Option<Format> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match essence {
            "" | "application/json" | "*/*" | "application/*" => Some(Format::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" => Some(Format::Yaml),
            _ => None,
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
        }
    }
}

/// Reads the body of a request.
pub fn decode(content_type: &str, body: &[u8]) -> Result<Decoded, CodecError> {
    if content_type.split(';').next().is_some_and(|essence| essence.trim() == PROTOBUF) {
        return Ok(Decoded { value: protobuf::decode(body)?, ..Decoded::default() });
    }
    match Format::of_media_type(content_type) {
        Some(Format::Json) => decode::json(body),
        Some(Format::Yaml) => decode::yaml(body),
        None => Err(CodecError::UnsupportedMediaType { accepted: ACCEPTED.join(", ") }),
    }
}

/// Writes an object (or list, or Status).
pub fn encode(format: Format, object: &Value) -> Result<Bytes, CodecError> {
    let encoded = match format {
        Format::Json => serde_json::to_vec(object).map_err(|error| error.to_string()),
        Format::Yaml => yaml(object).map(String::into_bytes),
    };
    encoded.map(Bytes::from).map_err(|message| CodecError::Encode { format, message })
}

fn yaml(object: &Value) -> Result<String, String> {
    serde_saphyr::to_string(object).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
