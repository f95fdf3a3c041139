//! One stored object: its JSON bytes, and beside them what selecting it takes.
//!
//! In the store an object is its JSON with an empty `metadata.resourceVersion`: the revision is only known once the write
//! has happened. The cache puts it in, once, at the place that [`Encoded`] remembers.

use std::sync::{Arc, OnceLock};

use api::codec::protobuf::{ProtobufError, encode_message};
use api::codec::{self, CodecError};
use api::schema::Schema;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use store::Revision;

use crate::encryption::{EncryptionError, Sealed};

/// `<namespace>/<name>`, or just the name of a cluster-scoped object: sorts as the API lists.
pub type Key = Arc<str>;

/// What is known of an object without parsing it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the selectable fields, in the order in which the resource declares them.
    pub fields: Box<[Box<str>]>,
    /// By whom it is encrypted in the store.
    pub sealed: Sealed,
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
    #[error(transparent)]
    Encrypted(#[from] EncryptionError),
    #[error("the stored value of {key} is not JSON: {source}")]
    Json { key: String, source: serde_json::Error },
    #[error("the stored value of {key} cannot be read: {source}")]
    Protobuf { key: String, source: CodecError },
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PROTOBUF_MAGIC: &[u8] = b"k8s\0";

/// An object as it is stored: JSON in the storage version, and what is known of it. Accompanies a write as its note.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Without a version.
    pub json: Bytes,
    /// Where in `json` its digits go.
    version_at: usize,
    pub meta: Arc<Meta>,
}

impl Object {
    /// An object that has been written at a revision.
    pub fn new(key: Key, revision: Revision, encoded: &Encoded) -> Self {
        let (before, after) = encoded.json.split_at_checked(encoded.version_at).unwrap_or_default();
        Self {
            key,
            revision,
            meta: encoded.meta.clone(),
            bytes: with_version(before, revision, after),
            version_at: encoded.version_at,
            message: OnceLock::new(),
            parsed: OnceLock::new(),
        }
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

impl Encoded {
    /// That it is encrypted in the store; called before anybody else has it.
    pub fn set_sealed(&mut self, sealed: Sealed) {
        if let Some(meta) = Arc::get_mut(&mut self.meta) {
            meta.sealed = sealed;
        }
    }

    /// The stored form of an object, with the values of its selectable `fields`. Any resourceVersion it carries is left
    /// out.
    pub fn of(object: &Value, fields: &[String]) -> Result<Self, serde_json::Error> {
        let mut out = Vec::with_capacity(1024);
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
                    version_at = out.len();
                    out.extend_from_slice(b"\"}");
                }
                _ => serde_json::to_writer(&mut out, value)?,
            }
        }
        out.push(b'}');
        Ok(Self { json: out.into(), version_at, meta: Arc::new(Meta::of(object, fields)) })
    }

    /// Of what the store holds, whoever wrote it.
    pub fn read(key: &str, stored: &[u8], fields: &[String]) -> Result<Self, ObjectError> {
        let json = |source| ObjectError::Json { key: key.to_owned(), source };
        let value: Value = match stored.starts_with(PROTOBUF_MAGIC) {
            // As upstream's API server stores what is built in.
            true => {
                codec::decode(PROTOBUF, stored)
                    .map_err(|source| ObjectError::Protobuf { key: key.to_owned(), source })?
                    .value
            }
            false => serde_json::from_slice(stored).map_err(json)?,
        };
        if !value.get("metadata").is_some_and(Value::is_object) {
            return Err(ObjectError::Damaged { key: key.to_owned() });
        }
        match empty_version(stored) {
            Some(version_at) => Ok(Self {
                json: Bytes::copy_from_slice(stored),
                version_at,
                meta: Arc::new(Meta::of(&value, fields)),
            }),
            // Not as we write it.
            None => Self::of(&value, fields).map_err(json),
        }
    }
}

/// The place within the quotes of an empty `metadata.resourceVersion`.
fn empty_version(stored: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Versioned<'a> {
        #[serde(borrow)]
        metadata: Metadata<'a>,
    }
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow, rename = "resourceVersion")]
        version: &'a RawValue,
    }
    let versioned: Versioned<'_> = serde_json::from_slice(stored).ok()?;
    let version = versioned.metadata.version.get();
    // Borrowed from `stored`: the difference of the addresses is the place.
    let place = (version.as_ptr() as usize).checked_sub(stored.as_ptr() as usize)?;
    (version == "\"\"" && stored.get(place..place + 2) == Some(b"\"\"")).then_some(place + 1)
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
        Self { labels, fields, sealed: None }
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
        let encoded = Encoded::of(value, &["spec.nodeName".to_owned()]).unwrap();
        let read = Encoded::read("ns/a", &encoded.json, &["spec.nodeName".to_owned()]).unwrap();
        assert_eq!(
            (read.version_at, &read.json, &read.meta),
            (encoded.version_at, &encoded.json, &encoded.meta)
        );
        Object::new("ns/a".into(), revision, &encoded)
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
    fn what_others_wrote_is_read() {
        #[track_caller]
        fn check(stored: &str, expected: Value) {
            let encoded = Encoded::read("a", stored.as_bytes(), &[]).unwrap();
            assert_eq!(Object::new("a".into(), 5, &encoded).value(), expected);
        }
        let expected = json!({"metadata": {"name": "a", "resourceVersion": "5"}});
        check(r#"{"metadata": {"name": "a"}}"#, expected.clone());
        check(r#"{"metadata": {"resourceVersion": "17", "name": "a"}}"#, expected.clone());
        check(r#"{ "metadata" : { "resourceVersion" : "" , "name" : "a" } }"#, expected);
        check(
            r#"{"data":{"metadata":{"resourceVersion":""}},"metadata":{"resourceVersion":""}}"#,
            json!({"data": {"metadata": {"resourceVersion": ""}}, "metadata": {"resourceVersion": "5"}}),
        );
    }

    #[test]
    fn what_upstream_wrote_is_read() {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"b": "c"},
        });
        let stored = api::codec::protobuf::encode(&map).unwrap();
        let encoded = Encoded::read("ns/a", &stored, &[]).unwrap();
        let mut expected = map;
        expected["metadata"]["resourceVersion"] = json!("5");
        assert_eq!(Object::new("ns/a".into(), 5, &encoded).value(), expected);
    }

    #[test]
    fn damage_is_told() {
        for stored in [&b""[..], b"\0\0", b"{", b"[]", b"{}", b"{\"metadata\":3}", b"k8s\0\n"] {
            assert!(Encoded::read("a", stored, &[]).is_err(), "{stored:?}");
        }
    }
}
