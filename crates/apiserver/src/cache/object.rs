//! One stored object: its JSON bytes, and beside them what selecting it takes.
//!
//! In the store an object is its JSON with an empty `metadata.resourceVersion`, preceded by the place where the version
//! goes: the revision is only known once the write has happened. The cache puts it in, once.

use std::sync::{Arc, OnceLock};

use api::codec::protobuf::{ProtobufError, encode_message};
use api::schema::Schema;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use store::Revision;

/// `<namespace>/<name>`, or just the name of a cluster-scoped object: sorts as the API lists.
pub type Key = Arc<str>;

/// What is known of an object without parsing it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the selectable fields, in the order in which the resource declares them.
    pub fields: Box<[Box<str>]>,
}

/// An object as it was after one revision. Never changes.
#[derive(Debug)]
pub struct Object {
    pub key: Key,
    pub revision: Revision,
    pub meta: Arc<Meta>,
    /// JSON in the storage version.
    bytes: Bytes,
    /// Where in `bytes` the digits of the resourceVersion begin.
    version_at: usize,
    /// The same as a protobuf message, once somebody has asked for it.
    message: OnceLock<Bytes>,
    /// Parsed, once somebody has asked for that to be kept.
    parsed: OnceLock<Arc<Value>>,
}

/// A stored value that this server did not write.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("the stored value of {key} is damaged")]
    Damaged { key: String },
    #[error("the stored value of {key} is not JSON: {source}")]
    Json { key: String, source: serde_json::Error },
}

const PREFIX: usize = 4;

impl Object {
    /// From the form that [`encode`] makes.
    pub fn from_stored(
        key: Key,
        revision: Revision,
        stored: &[u8],
        meta: Arc<Meta>,
    ) -> Result<Self, ObjectError> {
        let damaged = || ObjectError::Damaged { key: key.to_string() };
        let (prefix, json) = stored.split_at_checked(PREFIX).ok_or_else(damaged)?;
        let version_at = prefix.try_into().map(u32::from_be_bytes).map_err(|_| damaged())? as usize;
        let (before, after) = json.split_at_checked(version_at).ok_or_else(damaged)?;
        let bytes = with_version(before, revision, after);
        Ok(Self { key, revision, meta, bytes, version_at, message: OnceLock::new(), parsed: OnceLock::new() })
    }

    /// The JSON of a stored value, without its version.
    pub fn stored_json(stored: &[u8]) -> &[u8] {
        stored.get(PREFIX..).unwrap_or_default()
    }

    /// The same object with another version: the last state of a deleted object carries the revision of its deletion.
    pub fn at(&self, revision: Revision) -> Self {
        let before = self.bytes.get(..self.version_at).unwrap_or_default();
        let rest = self.bytes.get(self.version_at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let after = rest.get(digits..).unwrap_or_default();
        Self {
            key: self.key.clone(),
            revision,
            meta: self.meta.clone(),
            bytes: with_version(before, revision, after),
            version_at: self.version_at,
            message: OnceLock::new(),
            parsed: OnceLock::new(),
        }
    }

    /// JSON in the storage version. Cheap to clone.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// As a protobuf message in the storage version, encoded once.
    pub fn message(&self, schema: &Schema) -> Result<Bytes, ProtobufError> {
        if let Some(message) = self.message.get() {
            return Ok(message.clone());
        }
        let message = Bytes::from(encode_message(schema, &self.value())?);
        Ok(self.message.get_or_init(|| message).clone())
    }

    /// Parsed anew.
    pub fn value(&self) -> Value {
        // What was written by `encode` is JSON, and what was loaded has been parsed once.
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// Parsed once and kept: for the few objects that are looked at with every write.
    pub fn shared_value(&self) -> Arc<Value> {
        self.parsed.get_or_init(|| Arc::new(self.value())).clone()
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }
}

fn with_version(before: &[u8], revision: Revision, after: &[u8]) -> Bytes {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = revision;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 || at == 0 {
            break;
        }
    }
    let digits = digits.get(at..).unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(before.len() + digits.len() + after.len());
    bytes.put_slice(before);
    bytes.put_slice(digits);
    bytes.put_slice(after);
    bytes.freeze()
}

/// The stored form of an object. Any resourceVersion it carries is left out.
pub fn encode(object: &Value) -> Result<Bytes, serde_json::Error> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&[0; PREFIX]);
    out.push(b'{');
    let mut version_at = 0usize;
    let mut first = true;
    for (key, value) in object.as_object().into_iter().flatten() {
        if !first {
            out.push(b',');
        }
        first = false;
        serde_json::to_writer(&mut out, key)?;
        out.push(b':');
        match (key.as_str(), value.as_object()) {
            ("metadata", Some(metadata)) => {
                out.push(b'{');
                for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
                    serde_json::to_writer(&mut out, key)?;
                    out.push(b':');
                    serde_json::to_writer(&mut out, value)?;
                    out.push(b',');
                }
                out.extend_from_slice(b"\"resourceVersion\":\"");
                version_at = out.len() - PREFIX;
                out.extend_from_slice(b"\"}");
            }
            _ => serde_json::to_writer(&mut out, value)?,
        }
    }
    out.push(b'}');
    let version_at = u32::try_from(version_at).unwrap_or_default();
    for (place, byte) in out.iter_mut().zip(version_at.to_be_bytes()) {
        *place = byte;
    }
    Ok(out.into())
}

impl Meta {
    /// Labels, and the values of `fields` (such as `spec.nodeName`).
    pub fn of(object: &Value, fields: &[String]) -> Self {
        let labels = object
            .get("metadata")
            .and_then(|metadata| metadata.get("labels"))
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str().into(), value.as_str().unwrap_or_default().into()))
            .collect();
        let fields = fields.iter().map(|path| field(object, path)).collect();
        Self { labels, fields }
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        let index = self.labels.binary_search_by(|(label, _)| (**label).cmp(key)).ok()?;
        self.labels.get(index).map(|(_, value)| &**value)
    }
}

/// The value at a path as a selector compares it: absent fields are empty (booleans `false`).
fn field(object: &Value, path: &str) -> Box<str> {
    let at = |path: &str| path.split('.').try_fold(object, |value, name| value.get(name));
    match at(path) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Bool(value)) => value.to_string().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        // Event's `source` is the reporting component, in either of its places.
        Some(Value::Object(source)) if path == "source" && source.contains_key("component") => {
            source.get("component").and_then(Value::as_str).unwrap_or_default().into()
        }
        _ if path == "source" => at("reportingComponent").and_then(Value::as_str).unwrap_or_default().into(),
        None if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        _ => Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: &Value, revision: Revision) -> Object {
        let stored = encode(value).unwrap();
        let meta = Arc::new(Meta::of(value, &["spec.nodeName".to_owned()]));
        Object::from_stored("ns/a".into(), revision, &stored, meta).unwrap()
    }

    #[test]
    fn version_is_put_in_and_replaced() {
        let value = json!({
            "kind": "Pod",
            "metadata": {"name": "a\"b", "resourceVersion": "7", "uid": "u"},
            "spec": {"nodeName": "n"},
        });
        #[track_caller]
        fn check(object: &Object, value: &Value, revision: &str) {
            let mut expected = value.clone();
            expected["metadata"]["resourceVersion"] = json!(revision);
            assert_eq!(object.value(), expected);
        }
        let first = object(&value, 9);
        check(&first, &value, "9");
        check(&first.at(12345), &value, "12345");
        check(&first.at(u64::MAX).at(1), &value, "1");
        assert_eq!((first.namespace(), first.name()), ("ns", "a"));
        assert_eq!(&*first.meta.fields, &["n".into()]);
    }

    #[test]
    fn damage_is_told() {
        for stored in [&b""[..], b"\0\0", b"\0\0\0\x09{}"] {
            assert!(Object::from_stored("a".into(), 1, stored, Arc::default()).is_err(), "{stored:?}");
        }
    }
}
