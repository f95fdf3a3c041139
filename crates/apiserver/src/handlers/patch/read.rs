//! Reading a patch that is JSON: what it is, and what is odd about how it is written.

use api::codec::{self, CodecError};
use api::status::Status;
use serde_json::{Map, Value};

use super::Type;
use crate::options::FieldValidation;

/// A patch as it was sent.
pub struct Given {
    pub patch: Value,
    /// Fields that it has twice, and operations' fields that mean nothing. Nobody asked for them where they are ignored.
    pub faults: Vec<String>,
}

impl Given {
    pub fn read(kind: Type, body: &[u8], validation: FieldValidation) -> Result<Self, Status> {
        let bad = |why: String| match kind {
            Type::Strategic => Status::bad_request(why),
            _ => Status::bad_request(format!("error decoding patch: {why}")),
        };
        let decoded = codec::decode("application/json", body).map_err(|error| match error {
            CodecError::Json(why) => bad(why),
            error => bad(error.to_string()),
        })?;
        let duplicates = decoded.duplicate_field_messages();
        let mut faults: Vec<String> = match kind {
            Type::Json => duplicates.map(|fault| format!("json patch {fault}")).collect(),
            _ => duplicates.collect(),
        };
        let patch = match (kind, decoded.value) {
            (Type::Json, Value::Null) => Value::Array(Vec::new()),
            (Type::Json, patch @ Value::Array(_)) => patch,
            (Type::Json, other) => {
                let found = found(&other);
                return Err(bad(format!(
                    "json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
                )));
            }
            (Type::Strategic, Value::Null) => Value::Object(Map::new()),
            (_, patch @ Value::Object(_)) => patch,
            (Type::Merge, Value::Null) => return Err(Status::bad_request("Invalid JSON Patch")),
            // Where nobody asks for what is odd about a patch, it is not read as an object first.
            (Type::Merge, patch @ Value::Array(_)) if validation == FieldValidation::Ignore => patch,
            (Type::Merge, _) if validation == FieldValidation::Ignore => {
                return Err(Status::bad_request("Invalid JSON Patch"));
            }
            (_, other) => return Err(bad(no_map(&other))),
        };
        if kind == Type::Json {
            faults.extend(meaningless(&patch));
        }
        if validation == FieldValidation::Ignore {
            faults.clear();
        }
        Ok(Self { patch, faults })
    }
}

/// What Go says of a value in the place of an object.
pub fn no_map(value: &Value) -> String {
    format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", found(value))
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Fields of operations that no operation has. As many are told as of duplicate ones.
fn meaningless(patch: &Value) -> Vec<String> {
    const MAX: usize = 100;
    let operations = patch.as_array().into_iter().flatten().enumerate();
    let fields = operations.flat_map(|(index, operation)| {
        operation.as_object().into_iter().flat_map(Map::keys).map(move |field| (index, field))
    });
    let unknown = fields.filter(|(_, field)| !matches!(field.as_str(), "op" | "path" | "from" | "value"));
    let told =
        unknown.map(|(index, field)| format!("json patch unknown field {:?}", format!("[{index}].{field}")));
    told.take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_patch_and_what_is_an_odd_one() {
        #[track_caller]
        fn check(kind: Type, body: &str, expected: Result<&[&str], &str>) {
            let read = Given::read(kind, body.as_bytes(), FieldValidation::Warn);
            let told =
                read.as_ref().map(|given| given.faults.clone()).map_err(|status| status.message.clone());
            let expected = expected.map(|faults| faults.iter().map(|fault| fault.to_string()).collect());
            assert_eq!(told, expected.map_err(str::to_owned), "{body}");
        }
        check(Type::Merge, "{}", Ok(&[]));
        check(Type::Merge, r#"{"a": {"b": 1, "b": 2}}"#, Ok(&[r#"duplicate field "a.b""#]));
        check(Type::Merge, "null", Err("Invalid JSON Patch"));
        check(
            Type::Merge,
            "[]",
            Err(
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
        );
        check(Type::Merge, "{", Err("error decoding patch: unexpected end of JSON input"));
        check(Type::Strategic, "{", Err("unexpected end of JSON input"));
        check(Type::Strategic, "null", Ok(&[]));
        check(Type::Json, "null", Ok(&[]));
        check(
            Type::Json,
            "{}",
            Err(
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
            ),
        );
        check(
            Type::Json,
            r#"[{"op": "test", "op": "test", "path": "/a", "value": 1, "x": 2}]"#,
            Ok(&[r#"json patch duplicate field "[0].op""#, r#"json patch unknown field "[0].x""#]),
        );
        let ignored = Given::read(Type::Merge, br#"{"a": 1, "a": 2}"#, FieldValidation::Ignore);
        assert!(ignored.is_ok_and(|given| given.faults.is_empty()));
    }
}
