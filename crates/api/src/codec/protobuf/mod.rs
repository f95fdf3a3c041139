//! `application/vnd.kubernetes.protobuf`: what client-go, operators and upstream's own components send.
//!
//! An object is a message in an envelope (`runtime.Unknown`) behind four magic bytes; the envelope names its type.
//! There are no generated messages here: the schema table knows the field numbers, and one encoder and one decoder
//! walk it, between bytes and the JSON values that everything else works with.

mod decode;
mod encode;

use bytes::Bytes;
use serde_json::Value;

use super::wire;
use crate::gvk::{GroupVersion, GroupVersionKind};
use crate::schema::{Schema, SchemaRef, builtin};

pub use encode::encode_message;

const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are no message, or an object has no protobuf form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    #[error("unexpected end of the message")]
    Truncated,
    #[error("a varint of more than 64 bits")]
    VarintTooLong,
    #[error("field number 0 or of more than 29 bits")]
    BadFieldNumber,
    #[error("{path}: wire type {found} where {expected} was expected")]
    WireType { path: String, found: u8, expected: &'static str },
    #[error("{path}: {problem}")]
    BadValue { path: String, problem: String },
    #[error("messages are nested too deeply")]
    TooDeep,
    #[error("content encoding {0:?} is not supported")]
    ContentEncoding(String),
    #[error("no kind {kind:?} in {api_version:?} has a protobuf form")]
    UnknownKind { api_version: String, kind: String },
}

/// The schema of a type that can be sent as protobuf: built-in kinds, their lists, and those of `meta/v1`.
pub fn schema_of(gvk: &GroupVersionKind) -> Option<SchemaRef> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let is_meta = match gvk.kind.as_str() {
        // These are part of every group version.
        "DeleteOptions" | "Status" => true,
        "PartialObjectMetadata" | "PartialObjectMetadataList" => gvk.group == "meta.k8s.io",
        "APIGroup" | "APIGroupList" | "APIResourceList" | "APIVersions" => gvk.group.is_empty(),
        _ => false,
    };
    match is_meta {
        true => builtin::named(&format!("{META}.{}", gvk.kind)),
        false => builtin::named(&builtin::name_of(gvk)?),
    }
}

/// Reads an object with its envelope. `apiVersion` and `kind` of the result are those of the envelope.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    decode_nested(body, 0)
}

fn decode_nested(body: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let envelope = Envelope::read(body)?;
    let gvk = envelope.gvk()?;
    let unknown = || ProtobufError::UnknownKind {
        api_version: envelope.api_version.clone(),
        kind: envelope.kind.clone(),
    };
    let schema = schema_of(&gvk).ok_or_else(unknown)?;
    let mut value = decode::message(&schema, envelope.raw, depth)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".to_owned(), envelope.api_version.into());
        object.insert("kind".to_owned(), envelope.kind.into());
    }
    Ok(value)
}

/// Writes an object with its envelope, which says the object's own `apiVersion` and `kind`.
pub fn encode(object: &Value) -> Result<Bytes, ProtobufError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let gvk = GroupVersionKind::of(object);
    let schema = gvk.and_then(|gvk| schema_of(&gvk));
    let schema = schema
        .ok_or_else(|| ProtobufError::UnknownKind { api_version: api_version.clone(), kind: kind.clone() })?;
    Ok(envelope(&api_version, &kind, &encode_message(&schema, object)?))
}

/// Puts a message into its envelope: for those who hold encoded objects and only say what they are.
pub fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Bytes {
    let mut type_meta = Vec::new();
    wire::put_bytes(&mut type_meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(MAGIC.len() + type_meta.len() + raw.len() + 16);
    out.extend_from_slice(MAGIC);
    wire::put_bytes(&mut out, 1, &type_meta);
    wire::put_bytes(&mut out, 2, raw);
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    out.into()
}

/// One frame of a watch stream: the length, then a `WatchEvent` (without an envelope) around an object in its envelope.
pub fn watch_frame(event_type: &str, object: &[u8]) -> Result<Bytes, ProtobufError> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::put_bytes(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + event_type.len() + 12);
    wire::put_bytes(&mut event, 1, event_type.as_bytes());
    wire::put_bytes(&mut event, 2, &raw);
    let length = u32::try_from(event.len()).map_err(|_| ProtobufError::BadValue {
        path: event_type.to_owned(),
        problem: "the event is larger than 4 GiB".to_owned(),
    })?;
    let mut frame = Vec::with_capacity(event.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&event);
    Ok(frame.into())
}

/// A list around items that are encoded already: `metadata` is a JSON `ListMeta`.
pub fn list<'a>(
    gvk: &GroupVersionKind,
    metadata: &Value,
    items: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Bytes, ProtobufError> {
    let mut raw = Vec::new();
    if let Some(schema) = builtin::named("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta") {
        wire::put_bytes(&mut raw, 1, &encode_message(&schema, metadata)?);
    }
    for item in items {
        wire::put_bytes(&mut raw, 2, item);
    }
    Ok(envelope(&gvk.api_version(), &gvk.kind, &raw))
}

/// `runtime.Unknown`.
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut reader = wire::Reader::new(body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?);
        let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
        while let Some(field) = reader.field()? {
            match field.number {
                1 => envelope.read_type(field.bytes("typeMeta")?)?,
                2 => envelope.raw = field.bytes("raw")?,
                3 => match field.text("contentEncoding")? {
                    "" => {}
                    encoding => return Err(ProtobufError::ContentEncoding(encoding.to_owned())),
                },
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type(&mut self, type_meta: &[u8]) -> Result<(), ProtobufError> {
        let mut reader = wire::Reader::new(type_meta);
        while let Some(field) = reader.field()? {
            match field.number {
                1 => self.api_version = field.text("apiVersion")?.to_owned(),
                2 => self.kind = field.text("kind")?.to_owned(),
                _ => {}
            }
        }
        Ok(())
    }

    fn gvk(&self) -> Result<GroupVersionKind, ProtobufError> {
        let version: GroupVersion = self.api_version.parse().map_err(|_| ProtobufError::UnknownKind {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
        })?;
        Ok(version.with_kind(&self.kind))
    }
}

/// Where in an object an error is, built up on the way out of the recursion.
pub(super) fn at(key: &str, error: ProtobufError) -> ProtobufError {
    let join = |path: String| if path.is_empty() { key.to_owned() } else { format!("{key}.{path}") };
    match error {
        ProtobufError::WireType { path, found, expected } => {
            ProtobufError::WireType { path: join(path), found, expected }
        }
        ProtobufError::BadValue { path, problem } => ProtobufError::BadValue { path: join(path), problem },
        other => other,
    }
}

pub(super) fn bad(problem: impl ToString) -> ProtobufError {
    ProtobufError::BadValue { path: String::new(), problem: problem.to_string() }
}

/// The schema of `apiextensions/v1` itself, inside of which untyped unions stand.
fn json_schema_props() -> Option<SchemaRef> {
    builtin::named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
}

fn type_name(schema: &Schema) -> &'static str {
    use crate::schema::Shape;
    match schema.shape {
        Shape::Any(_) => "any value",
        Shape::Boolean => "a boolean",
        Shape::Int32 | Shape::Int64 => "an integer",
        Shape::Number => "a number",
        Shape::String => "a string",
        Shape::Bytes => "base64 text",
        Shape::Time | Shape::MicroTime => "an RFC 3339 time",
        Shape::Quantity => "a quantity",
        Shape::IntOrString => "an integer or a string",
        Shape::List(_) => "a list",
        Shape::Map(_) | Shape::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
