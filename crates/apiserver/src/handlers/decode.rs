//! From the body of a request to an object of the right kind, checked against its schema.

use std::fmt::Display;

use api::codec::{ACCEPTED, CodecError, Decoded};
use api::field::{FieldErrors, Path};
use api::gvk::GroupVersionKind;
use api::schema::{Schema, strict_decoding_error};
use api::status::Status;
use serde_json::{Map, Value};

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
    let decoded = decoded(content_type, body, &gvk.kind)?;
    let duplicates = decoded.duplicate_field_messages().collect();
    let Decoded { mut value, .. } = decoded;
    check_kind(call, &mut value, gvk, body)?;
    check(call, &mut value, gvk, schema, validation, duplicates)?;
    audit::requested(&value);
    Ok(value)
}

/// Bytes as an object of any kind, although one of this is expected.
pub fn decoded(content_type: &str, body: &[u8], kind: &str) -> Result<Decoded, Status> {
    api::codec::decode(content_type, body).map_err(|error| match error {
        CodecError::UnsupportedMediaType { .. } => Status::unsupported_media_type(ACCEPTED),
        error => unrecognized(kind, &error, body),
    })
}

/// What is no object at all.
fn unrecognized(kind: &str, why: &dyn Display, body: &[u8]) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why} ({})",
        summary(body)
    ))
}

/// The beginning of a body, as hexadecimal digits unless it looks like JSON.
fn summary(body: &[u8]) -> String {
    const LENGTH: usize = 30;
    let (begin, dots) = match body.get(..LENGTH) {
        Some(begin) if body.len() > LENGTH => (begin, " ..."),
        _ => (body, ""),
    };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(begin)),
        Some(_) => {
            let digits: String = begin.iter().map(|byte| format!("{byte:02x}")).collect();
            digits + dots
        }
    }
}

/// A body that does not say what it is is what is expected.
fn check_kind(
    call: &Call,
    value: &mut Value,
    expected: &GroupVersionKind,
    body: &[u8],
) -> Result<(), Status> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    let Some(object) = value.as_object_mut() else {
        let found = match value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            _ => "number",
        };
        // As Go says it of the struct that it reads the kind into.
        let why = format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct \
             {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        );
        return Err(unrecognized(&expected.kind, &why, body));
    };
    let api_version = expected.api_version();
    let given = |field: &str, default: &str| {
        let said = object.get(field).and_then(Value::as_str).filter(|said| !said.is_empty());
        said.unwrap_or(default).to_owned()
    };
    let (given_version, given_kind) = (given("apiVersion", &api_version), given("kind", &expected.kind));
    if given_version != api_version || given_kind != expected.kind {
        return Err(wrong_kind(call, &given_version, &given_kind, expected, object));
    }
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), expected.kind.clone().into());
    Ok(())
}

fn wrong_kind(
    call: &Call,
    given_version: &str,
    given_kind: &str,
    expected: &GroupVersionKind,
    object: &Map<String, Value>,
) -> Status {
    let expected_version = expected.api_version();
    let (group, version) = given_version.rsplit_once('/').unwrap_or(("", given_version));
    let custom = call.served.custom.is_some() && *expected == call.served.resource.gvk;
    let same = given_kind == expected.kind && group == expected.group;
    let known = call.state.catalog().registry.iter().any(|resource| {
        let known = &resource.gvk;
        known.group == group && known.version == version && known.kind == given_kind
    });
    if custom && given_version == expected_version {
        let mut errors = FieldErrors::new();
        errors.invalid(&Path::new("kind"), given_kind, format!("must be {}", expected.kind));
        let name = object.get("metadata").and_then(|metadata| metadata["name"].as_str()).unwrap_or_default();
        return Status::invalid(&expected.group, &expected.kind, name, &errors);
    }
    if custom || (same && known) {
        return Status::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({expected_version})"
        ));
    }
    let why = match known {
        true => format!(
            "converting ({version}.{given_kind}) to ({}.{}): unknown conversion",
            internal(&expected.group),
            expected.kind
        ),
        false => {
            format!("no kind {given_kind:?} is registered for version {given_version:?} in scheme {SCHEME:?}")
        }
    };
    Status::bad_request(format!(
        "{given_kind} in version {version:?} cannot be handled as a {}: {why}",
        expected.kind
    ))
}

/// Where upstream registers its kinds, which is part of what clients are told.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

/// What upstream calls the package that has the kinds of a group whatever their version.
fn internal(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
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
        FieldValidation::Warn => warn(call, &faults),
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

/// Each fault is a warning of its own, each line of what YAML is said to have twice too.
pub fn warn(call: &Call, faults: &[String]) {
    for fault in faults {
        let lines = fault.strip_prefix("yaml: unmarshal errors:\n");
        match lines {
            Some(lines) => lines.lines().for_each(|line| call.warn(line.trim())),
            None => call.warn(fault),
        }
    }
}
