//! Objects as the client asked for them: whole, as a table, metadata only.

use std::sync::Arc;

use api::codec::protobuf;
use api::gvk::GroupVersionKind;
use api::status::Status;
use api::table::{IncludeObject, Options};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use crate::cache::object::Object;
use crate::convert::convert;
use crate::negotiate::{Encoding, Form};
use crate::server::body::ResponseBody;
use crate::server::respond::{self, Answer};

/// Whether the stored bytes are what the client wants to see of an object. Custom objects have been brought into the
/// version that was asked for before ([`shown`]).
pub fn bytes_suffice(call: &Call) -> bool {
    let stored = call.served.custom.is_some() || call.served.storage.gvk == call.served.resource.gvk;
    call.accept.form == Form::Whole && stored
}

/// The object as the version that was asked for shows it, where that may take a webhook.
pub async fn shown(call: &Call, object: &Arc<Object>) -> Result<Arc<Object>, Status> {
    call.served.shown_one(&call.state.outbound, object).await
}

/// One stored object as an answer.
pub fn object(call: &Call, code: StatusCode, object: &Object) -> Result<Answer, Status> {
    if bytes_suffice(call) {
        let format = call.accept.format;
        let bytes = match format {
            Encoding::Json if !call.pretty => Some(object.bytes().clone()),
            Encoding::Protobuf => Some(enveloped(call, object)?),
            Encoding::Json | Encoding::Yaml => None,
        };
        if let Some(bytes) = bytes {
            return Ok(respond::with_body(code, format.media_type(), ResponseBody::full(bytes)));
        }
    }
    value(call, code, served_value(call, object))
}

/// One object, in the version that was asked for, as an answer.
pub fn value(call: &Call, code: StatusCode, value: Value) -> Result<Answer, Status> {
    let rendered = match call.accept.form {
        Form::Whole => value,
        Form::Partial => partial(call, value),
        Form::Table => {
            let metadata = value["metadata"].clone();
            table(call, &[value], &metadata, true)?
        }
    };
    respond::value(code, &rendered, call.accept.format, call.pretty)
}

/// Parsed, in the version that was asked for.
pub fn served_value(call: &Call, object: &Object) -> Value {
    let mut value = object.value();
    if call.served.custom.is_none() {
        convert(&mut value, &call.served.resource.gvk);
    }
    value
}

/// Metadata only.
pub fn partial(call: &Call, mut object: Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": call.accept.meta_version,
        "metadata": object["metadata"].take(),
    })
}

/// One of the kinds of metadata, in the version that was asked for.
pub fn partial_kind(call: &Call, kind: &str) -> GroupVersionKind {
    let version = call.accept.meta_version.split_once('/').map_or("v1", |(_, version)| version);
    GroupVersionKind::new("meta.k8s.io", version, kind)
}

/// A table with a row for each object. What accompanies a row is the client's choice.
pub fn table(call: &Call, objects: &[Value], metadata: &Value, headers: bool) -> Result<Value, Status> {
    let asked = call.query.get("includeObject").unwrap_or_default();
    let include = IncludeObject::parse(asked).ok_or_else(|| {
        Status::bad_request(format!(
            "unrecognized includeObject value: {asked:?}; must be one of \"None\", \"Metadata\", \"Object\""
        ))
    })?;
    let options = Options { metadata: Some(metadata), headers, ..Options::new(Timestamp::now(), include) };
    let mut table = match &call.served.custom {
        Some(custom) => custom.version.compiled().columns.render(objects, options),
        None => api::table::render(&call.served.resource, objects, options),
    };
    table["apiVersion"] = call.accept.meta_version.into();
    if include == IncludeObject::Metadata
        && let Some(rows) = table["rows"].as_array_mut()
    {
        for row in rows {
            row["object"]["apiVersion"] = call.accept.meta_version.into();
        }
    }
    Ok(table)
}

/// A stored object as protobuf, in its envelope.
pub fn enveloped(call: &Call, object: &Object) -> Result<Bytes, Status> {
    let resource = &call.served.resource;
    let schema = protobuf::schema_of(&resource.gvk).ok_or_else(Status::unknown_resource)?;
    let message = object.message(&schema).map_err(Status::internal)?;
    Ok(protobuf::envelope(&call.served.api_version, &resource.gvk.kind, &message))
}

/// One object in the form, version and encoding that was asked for, as it goes into watch events.
pub fn item_bytes(call: &Call, object: &Object) -> Result<Bytes, Status> {
    let protobuf = call.accept.format == Encoding::Protobuf;
    if bytes_suffice(call) {
        return if protobuf { enveloped(call, object) } else { Ok(object.bytes().clone()) };
    }
    let value = formed(call, object);
    match protobuf {
        true => protobuf::encode(&value).map_err(Status::internal),
        false => Ok(serde_json::to_vec(&value).map_err(Status::internal)?.into()),
    }
}

/// The object, or its metadata, in the version that was asked for.
pub fn formed(call: &Call, object: &Object) -> Value {
    let value = served_value(call, object);
    if call.accept.form == Form::Partial { partial(call, value) } else { value }
}
