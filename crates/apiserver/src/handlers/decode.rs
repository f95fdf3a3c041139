//! From the body of a request to an object of the right kind, checked against its schema.

use std::fmt::Display;

use api::codec::{ACCEPTED, CodecError, Decoded, Format, faults};
use api::field::{FieldErrors, Path};
use api::gvk::GroupVersionKind;
use api::schema::{Schema, strict_decoding_error};
use api::status::Status;
use serde_json::{Map, Value};

use super::call::Call;
use crate::audit;
use crate::crd::Custom;
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
    let duplicates: Vec<String> = decoded.duplicate_field_messages().collect();
    let Decoded { mut value, duplicate_fields, .. } = decoded;
    check_kind(call, &mut value, gvk, body)?;
    let unknown = unknown_fields(call, &mut value, gvk, schema)?;
    let found =
        match custom_kind(call, gvk).is_none() && Format::of_media_type(content_type) == Some(Format::Json) {
            true => faults::in_order(body, &duplicate_fields, &unknown),
            false => together(duplicates, &unknown),
        };
    judge(call, gvk, validation, &found)?;
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

/// Why a value says nothing of what it is: it is no object, or says it by something else than text.
fn mute(value: &Value) -> Option<String> {
    // As Go says it of the struct that it reads the kind into.
    const STRUCT: &str = "value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
                          \"json:\\\"kind,omitempty\\\"\" }";
    let found = |value: &Value| match value {
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Null => "null",
    };
    let (found, place) = match value {
        Value::Null => return None,
        Value::Object(object) => {
            let wrong =
                |field: &&str| object.get(*field).is_some_and(|said| !said.is_null() && !said.is_string());
            let field = ["apiVersion", "kind"].into_iter().find(wrong)?;
            (found(value.get(field)?), format!("struct field .{field} of type string"))
        }
        other => (found(other), STRUCT.to_owned()),
    };
    Some(format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go {place}"
    ))
}

/// A custom object has to say what it is.
fn check_custom(value: &Value, expected: &GroupVersionKind, body: &[u8]) -> Result<(), Status> {
    let object = value.as_object();
    let given = |field: &str| object.and_then(|object| object.get(field)?.as_str()).unwrap_or_default();
    if given("kind").is_empty() {
        let shown: String = String::from_utf8_lossy(body).chars().take(MAX_SHOWN).collect();
        let why = format!("Object 'Kind' is missing in '{shown}'");
        return Err(unrecognized(&expected.kind, &why, body));
    }
    if given("apiVersion").is_empty() {
        return Err(other_version("", expected));
    }
    Ok(())
}

/// So much of a body is repeated in what is said of it.
const MAX_SHOWN: usize = 2048;

fn other_version(given: &str, expected: &GroupVersionKind) -> Status {
    Status::bad_request(format!(
        "the API version in the data ({given}) does not match the expected API version ({})",
        expected.api_version()
    ))
}

/// A body that does not say what it is is what is expected, unless it is a custom object.
fn check_kind(
    call: &Call,
    value: &mut Value,
    expected: &GroupVersionKind,
    body: &[u8],
) -> Result<(), Status> {
    if let Some(why) = mute(value) {
        return Err(unrecognized(&expected.kind, &why, body));
    }
    if call.served.custom.is_some() && *expected == call.served.resource.gvk {
        check_custom(value, expected, body)?;
    }
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    let Some(object) = value.as_object_mut() else { return Ok(()) };
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
    let known = is_known(call, group, version, given_kind);
    if custom && given_version == expected_version {
        let mut errors = FieldErrors::new();
        errors.invalid(&Path::new("kind"), given_kind, format!("must be {}", expected.kind));
        let name = object.get("metadata").and_then(|metadata| metadata["name"].as_str()).unwrap_or_default();
        return Status::invalid(&expected.group, given_kind, name, &errors);
    }
    if custom || (same && known) {
        return other_version(given_version, expected);
    }
    let why = foreign(call, given_version, given_kind, expected);
    Status::bad_request(format!(
        "{given_kind} in version {version:?} cannot be handled as a {}: {why}",
        expected.kind
    ))
}

/// Why an object of another kind is not taken for one of this.
fn foreign(call: &Call, given_version: &str, given_kind: &str, expected: &GroupVersionKind) -> String {
    let (group, version) = given_version.rsplit_once('/').unwrap_or(("", given_version));
    match is_known(call, group, version, given_kind) {
        true => format!(
            "converting ({version}.{given_kind}) to ({}.{}): unknown conversion",
            internal(&expected.group),
            expected.kind
        ),
        false => {
            format!("no kind {given_kind:?} is registered for version {given_version:?} in scheme {SCHEME:?}")
        }
    }
}

fn is_known(call: &Call, group: &str, version: &str, kind: &str) -> bool {
    call.state.catalog().registry.iter().any(|resource| {
        let known = &resource.gvk;
        known.group == group && known.version == version && known.kind == kind
    })
}

/// A patched object that is none of the kind that was patched.
pub enum Identity {
    /// As one that cannot be read.
    Unfit(String),
    Refused(Box<Status>),
}

/// Whether a patched object still says what it is. A built-in one need not say its kind.
pub fn identity(call: &Call, patched: &mut Value) -> Result<(), Identity> {
    let expected = &call.served.resource.gvk;
    let refused = |status: Status| Identity::Refused(Box::new(status));
    let custom = call.served.custom.is_some();
    let api_version = call.served.api_version.as_str();
    if let Some(why) = mute(patched) {
        return Err(Identity::Unfit(why));
    }
    let given = |field: &str| patched[field].as_str().unwrap_or_default().to_owned();
    let (given_version, given_kind) = (given("apiVersion"), given("kind"));
    if given_kind.is_empty() && custom {
        return Err(Identity::Unfit(format!("Object 'Kind' is missing in '{patched}'")));
    }
    if custom && patched.get("apiVersion").is_none() {
        let why = "Object 'apiVersion' is missing in 'object has no apiVersion field'";
        return Err(refused(Status::internal(why)));
    }
    if custom && patched["apiVersion"].is_null() {
        let why = ".apiVersion accessor error: <nil> is of the type <nil>, expected string";
        return Err(Identity::Unfit(why.to_owned()));
    }
    if given_version.is_empty() {
        return Err(Identity::Unfit(format!("Object 'apiVersion' is missing in '{patched}'")));
    }
    let Some(object) = patched.as_object_mut() else { return Err(refused(nameless(&call.info.name))) };
    if given_kind.is_empty() {
        object.insert("kind".to_owned(), expected.kind.clone().into());
        return Ok(());
    }
    if given_version == api_version && given_kind == expected.kind {
        return Ok(());
    }
    if !custom {
        return Err(Identity::Unfit(foreign(call, &given_version, &given_kind, expected)));
    }
    let mut errors = FieldErrors::new();
    if given_version != api_version {
        errors.invalid(&Path::new("apiVersion"), given_version.as_str(), format!("must be {api_version}"));
    }
    if given_kind != expected.kind {
        errors.invalid(&Path::new("kind"), given_kind.as_str(), format!("must be {}", expected.kind));
    }
    let group = given_version.rsplit_once('/').map_or("", |(group, _)| group);
    Err(refused(Status::invalid(group, &given_kind, &call.info.name, &errors)))
}

pub fn nameless(name: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({name} based on URL) was undeterminable: name must be provided"
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
    duplicates: Vec<String>,
) -> Result<(), Status> {
    let unknown = unknown_fields(call, value, gvk, schema)?;
    judge(call, gvk, validation, &together(duplicates, &unknown))
}

/// What is said of duplicate fields, then of unknown ones.
pub fn together(mut duplicates: Vec<String>, unknown: &[String]) -> Vec<String> {
    duplicates.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
    duplicates
}

/// The definition behind a kind, if it is a custom one.
fn custom_kind<'a>(call: &'a Call, gvk: &GroupVersionKind) -> Option<&'a Custom> {
    call.served.custom.as_ref().filter(|_| *gvk == call.served.resource.gvk)
}

/// Takes out what the schema does not have, and says where it was; 400 for a value of a wrong type.
fn unknown_fields(
    call: &Call,
    value: &mut Value,
    gvk: &GroupVersionKind,
    schema: Option<&Schema>,
) -> Result<Vec<String>, Status> {
    fit(call, value, gvk, schema).map_err(|why| {
        let (kind, version) = (&gvk.kind, &gvk.version);
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    })
}

/// The same; fails with what is said of a value of a wrong type.
pub fn fit(
    call: &Call,
    value: &mut Value,
    gvk: &GroupVersionKind,
    schema: Option<&Schema>,
) -> Result<Vec<String>, String> {
    let report = match (custom_kind(call, gvk), schema) {
        (Some(custom), _) => custom.version.read(value),
        (None, Some(schema)) => schema.check(value),
        (None, None) => return Ok(Vec::new()),
    };
    match report.errors.first() {
        Some(error) => Err(error.to_string()),
        None => Ok(report.unknown),
    }
}

/// Brings an object into shape whose parts, what was stored and what has been applied to it, fit the schema.
pub fn shape(call: &Call, value: &mut Value, schema: &Schema) {
    match custom_kind(call, &call.served.resource.gvk) {
        Some(custom) => drop(custom.version.shape(value)),
        None => drop(schema.check(value)),
    }
}

/// As severely as the client asks for.
fn judge(
    call: &Call,
    gvk: &GroupVersionKind,
    validation: FieldValidation,
    faults: &[String],
) -> Result<(), Status> {
    if faults.is_empty() {
        return Ok(());
    }
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => warn(call, faults),
        FieldValidation::Strict => {
            return Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {}",
                gvk.kind,
                gvk.version,
                gvk.kind,
                strict_decoding_error(faults)
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
