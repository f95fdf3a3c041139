//! Objects as the client asked for them: whole, as a table, metadata only.

use std::sync::Arc;

use api::codec::Format;
use api::status::Status;
use api::table::{IncludeObject, Options};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use crate::cache::object::Object;
use crate::convert::convert;
use crate::negotiate::Form;
use crate::server::body::ResponseBody;
use crate::server::respond::{self, Answer};

/// Whether the stored bytes are what the client wants to see of an object.
pub fn bytes_suffice(call: &Call) -> bool {
    call.accept.form == Form::Whole && call.served.storage.gvk == call.served.resource.gvk
}

/// One stored object as an answer.
pub fn object(call: &Call, code: StatusCode, object: &Object) -> Result<Answer, Status> {
    if bytes_suffice(call) && call.accept.format == Format::Json && !call.query.pretty() {
        let body = ResponseBody::full(object.bytes().clone());
        return Ok(respond::with_body(code, Format::Json.media_type(), body));
    }
    value(call, code, served_value(call, object))
}

/// One object, in the version that was asked for, as an answer.
pub fn value(call: &Call, code: StatusCode, value: Value) -> Result<Answer, Status> {
    let rendered = match call.accept.form {
        Form::Whole => value,
        Form::Partial => partial(value),
        Form::Table => {
            let metadata = value["metadata"].clone();
            table(call, &[value], &metadata, true)?
        }
    };
    respond::value(code, &rendered, call.accept.format, call.query.pretty())
}

/// Parsed, in the version that was asked for.
pub fn served_value(call: &Call, object: &Object) -> Value {
    let mut value = object.value();
    convert(&mut value, &call.served.resource.gvk);
    value
}

/// Metadata only.
pub fn partial(mut object: Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"].take(),
    })
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
    Ok(api::table::render(&call.served.resource, objects, options))
}

/// One object's JSON in the form and version that was asked for, as it goes into lists and watch events.
pub fn item_bytes(call: &Call, object: &Arc<Object>) -> Result<Bytes, Status> {
    if bytes_suffice(call) {
        return Ok(object.bytes().clone());
    }
    let mut value = served_value(call, object);
    if call.accept.form == Form::Partial {
        value = partial(value);
    }
    Ok(serde_json::to_vec(&value).map_err(Status::internal)?.into())
}
