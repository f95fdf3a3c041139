//! From the body of a request to an object of the right kind, checked against its schema.

use api::codec::{ACCEPTED, CodecError, Decoded};
use api::gvk::GroupVersionKind;
use api::schema::{Schema, strict_decoding_error};
use api::status::Status;
use serde_json::Value;

use super::call::Call;
use crate::audit;
use crate::options::FieldValidation;

/// A body of the kind of the resource that is written.
pub fn object(call: &Call, body: &[u8], validation: FieldValidation) -> Result<Value, Status> {
    let resource = &call.served.resource;
    typed(call, body, &resource.gvk, resource.schema(), validation)
}

/// A review of the resource that is created.
pub fn reviewed(call: &Call, body: &[u8]) -> Result<Value, Status> {
    object(call, body, FieldValidation::Ignore)
}

/// A body of a known kind.
pub fn typed(
    call: &Call,
    body: &[u8],
    gvk: &GroupVersionKind,
    schema: Option<&Schema>,
    validation: FieldValidation,
) -> Result<Value, Status> {
    typed_as(call, call.content_type(), body, gvk, schema, validation)
}

/// A body of a known kind, in another form than the request says.
pub fn typed_as(
    call: &Call,
    content_type: &str,
    body: &[u8],
    gvk: &GroupVersionKind,
    schema: Option<&Schema>,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let decoded = decoded(content_type, body)?;
    let duplicates = decoded.duplicate_field_messages().collect();
    let Decoded { mut value, .. } = decoded;
    check_kind(&mut value, gvk)?;
    check(call, &mut value, gvk, schema, validation, duplicates)?;
    audit::requested(&value);
    Ok(value)
}

/// Bytes as an object of any kind.
pub fn decoded(content_type: &str, body: &[u8]) -> Result<Decoded, Status> {
    api::codec::decode(content_type, body).map_err(|error| match error {
        CodecError::UnsupportedMediaType { .. } => Status::unsupported_media_type(ACCEPTED),
        error => Status::bad_request(error.to_string()),
    })
}

/// A body that does not say what it is is what is expected.
fn check_kind(value: &mut Value, expected: &GroupVersionKind) -> Result<(), Status> {
    let Some(object) = value.as_object_mut() else {
        return Err(Status::bad_request("the body of the request is not an object"));
    };
    let api_version = expected.api_version();
    let given = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (given_version, given_kind) = (given("apiVersion"), given("kind"));
    if !given_version.is_empty() && given_version != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !given_kind.is_empty() && given_kind != expected.kind {
        return Err(Status::bad_request(format!(
            "{given_kind} in version {:?} cannot be handled as a {}: converting ({given_kind}) to ({}): unknown conversion",
            expected.version, expected.kind, expected.kind
        )));
    }
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), expected.kind.clone().into());
    Ok(())
}

/// Types, unknown fields (dropped) and duplicate ones, as severely as the client asks for.
pub fn check(
    call: &Call,
    value: &mut Value,
    gvk: &GroupVersionKind,
    schema: Option<&Schema>,
    validation: FieldValidation,
    mut faults: Vec<String>,
) -> Result<(), Status> {
    let custom = call.served.custom.as_ref().filter(|_| *gvk == call.served.resource.gvk);
    let report = match (custom, schema) {
        (Some(custom), _) => Some(custom.version.read(value)),
        (None, Some(schema)) => Some(schema.check(value)),
        (None, None) => None,
    };
    if let Some(report) = report {
        if let Some(error) = report.errors.first() {
            return Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {error}",
                gvk.kind, gvk.version, gvk.kind
            )));
        }
        faults.extend(report.unknown_field_messages());
    }
    if faults.is_empty() {
        return Ok(());
    }
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => faults.into_iter().for_each(|fault| call.warn(fault)),
        FieldValidation::Strict => {
            return Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {}",
                gvk.kind,
                gvk.version,
                gvk.kind,
                strict_decoding_error(&faults)
            )));
        }
    }
    Ok(())
}
