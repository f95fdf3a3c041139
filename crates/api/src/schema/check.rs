//! Brings an object from outside into the shape of its schema: wrong types are errors, unknown fields are reported
//! and dropped, nulls and alternative spellings (a number as a quantity) become what is stored.
//!
//! The words are those of kube-apiserver's decoder, which clients and their users know. Nothing is allocated for an
//! object without faults.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::{Field, List, Object, Schema, SchemaRef, Shape, builtin};
use crate::quantity::Quantity;

/// Faults beyond this many are not listed, as upstream does: a hostile object must not make a huge answer.
const MAX_FAULTS: usize = 100;

/// Deeper objects are refused. Nothing legitimate comes near it; the decoders have limits of their own.
const MAX_DEPTH: usize = 512;

/// What was found in an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaReport {
    /// Paths of fields that the schema does not have (`spec.containers[0].imagee`). They have been dropped.
    pub unknown: Vec<String>,
    /// Values of a wrong type. The object is not usable if there are any.
    pub errors: Vec<SchemaError>,
}

/// The message with which `fieldValidation: Strict` refuses an object: unknown and duplicate fields together.
pub fn strict_decoding_error(faults: &[String]) -> String {
    format!("strict decoding error: {}", faults.join(", "))
}

/// A value of a wrong type, in the words of Go's JSON decoder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("json: cannot unmarshal {found} into Go {place} of type {expected}")]
    Type {
        /// `string`, `number 1.5`, `array`.
        found: String,
        /// `struct field DeploymentSpec.spec.replicas`, `value`.
        place: String,
        /// `int32`, `[]v1.Container`.
        expected: String,
        /// Where in the object, without the type's name.
        path: String,
    },
    #[error("{message}")]
    Format { message: String, path: String },
    #[error("exceeded max depth")]
    Depth,
}

impl Schema {
    /// Checks an object and brings it into the form in which it is stored.
    pub fn check(&self, object: &mut Value) -> SchemaReport {
        let mut check = Check { root: self, report: SchemaReport::default() };
        check.value(self, object, &Place { parent: None, step: Step::Root, type_name: "", depth: 0 });
        check.report
    }

    /// The Go type of an object, without its package: `PodSpec`.
    pub fn type_name(&self) -> String {
        object_name(self).rsplit('.').next().unwrap_or_default().to_owned()
    }
}

/// Where the check is: a list that lives on the stack, written out only for a fault.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
    /// The Go type of the object around, such as `PodSpec`.
    type_name: &'a str,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    /// Go does not count these as fields.
    MapKey(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    fn below(&'a self, step: Step<'a>) -> Place<'a> {
        Place { parent: Some(self), step, type_name: self.type_name, depth: self.depth + 1 }
    }

    /// `spec.containers[0].image`.
    fn path(&self) -> String {
        self.write(|path, step| match step {
            Step::Root => {}
            Step::Field(key) | Step::MapKey(key) => push_key(path, key),
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        })
    }

    /// `spec.containers.image`: as Go names struct fields.
    fn struct_path(&self) -> String {
        self.write(|path, step| {
            if let Step::Field(name) = step {
                push_key(path, name);
            }
        })
    }

    fn write(&self, push: impl Fn(&mut String, Step<'_>)) -> String {
        let mut steps: Vec<Step<'_>> =
            std::iter::successors(Some(self), |place| place.parent).map(|place| place.step).collect();
        steps.reverse();
        let mut path = String::new();
        for step in steps {
            push(&mut path, step);
        }
        path
    }
}

fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

struct Check<'a> {
    root: &'a Schema,
    report: SchemaReport,
}

impl Check<'_> {
    fn value(&mut self, schema: &Schema, value: &mut Value, place: &Place<'_>) {
        if value.is_null() {
            if !schema.nullable {
                *value = zero(schema);
            }
            return;
        }
        match (&schema.shape, value) {
            (Shape::Any(_), _) | (Shape::Boolean, Value::Bool(_)) | (Shape::String, Value::String(_)) => {}
            (Shape::Number, Value::Number(_)) => {}
            (Shape::Int32, Value::Number(number))
                if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {}
            (Shape::Int64, Value::Number(number)) if number.is_i64() => {}
            (Shape::IntOrString, Value::String(_)) => {}
            (Shape::IntOrString, Value::Number(number)) if number.is_i64() => {}
            (Shape::Quantity, value @ (Value::String(_) | Value::Number(_))) => self.quantity(value, place),
            (Shape::Bytes, Value::String(text)) => self.bytes(text, place),
            (Shape::Time, Value::String(text)) => self.time(text, place, 0),
            (Shape::MicroTime, Value::String(text)) => self.time(text, place, 6),
            (Shape::List(list), Value::Array(items)) => {
                if self.too_deep(place) {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    self.reference(&list.items, item, &place.below(Step::Index(index)));
                }
            }
            (Shape::Map(map), Value::Object(entries)) => {
                if self.too_deep(place) {
                    return;
                }
                for (key, value) in entries.iter_mut() {
                    self.reference(&map.values, value, &place.below(Step::MapKey(key)));
                }
            }
            (Shape::Object(object), Value::Object(entries)) => {
                if !self.too_deep(place) {
                    self.object(object, entries, place);
                }
            }
            (_, value) => self.wrong_type(schema, value, place),
        }
    }

    /// Follows a reference, noting the Go type that errors below name.
    fn reference(&mut self, schema: &SchemaRef, value: &mut Value, place: &Place<'_>) {
        match (schema, &schema.shape) {
            (SchemaRef::Builtin(index), Shape::Object(_)) => {
                let place = Place { type_name: short_name(*index), ..*place };
                self.value(schema, value, &place);
            }
            _ => self.value(schema, value, place),
        }
    }

    fn object(&mut self, object: &Object, entries: &mut Map<String, Value>, place: &Place<'_>) {
        let mut faulty = false;
        for (name, value) in entries.iter_mut() {
            match object.field(name) {
                Some(field) if is_absent(field, value) => faulty = true,
                Some(field) => self.reference(&field.schema, value, &place.below(Step::Field(name))),
                None => faulty = true,
            }
        }
        if faulty {
            entries.retain(|name, value| self.keep(object, name, value, place));
        }
    }

    /// Whether an entry stays that may be as good as absent or may have no field.
    fn keep(&mut self, object: &Object, name: &str, value: &Value, place: &Place<'_>) -> bool {
        match object.field(name) {
            Some(field) => !is_absent(field, value),
            None if object.preserve_unknown => true,
            None if object.embedded && matches!(name, "apiVersion" | "kind" | "metadata") => true,
            None => {
                if self.report.unknown.len() < MAX_FAULTS {
                    self.report.unknown.push(place.below(Step::Field(name)).path());
                }
                false
            }
        }
    }

    fn too_deep(&mut self, place: &Place<'_>) -> bool {
        let deep = place.depth > MAX_DEPTH;
        if deep {
            self.error(SchemaError::Depth);
        }
        deep
    }

    fn quantity(&mut self, value: &mut Value, place: &Place<'_>) {
        match Quantity::from_value(value) {
            Ok(quantity) => {
                let canonical = quantity.to_string();
                if value.as_str() != Some(&canonical) {
                    *value = Value::String(canonical);
                }
            }
            Err(error) => self.format(error.to_string(), place),
        }
    }

    fn bytes(&mut self, text: &mut String, place: &Place<'_>) {
        // Go's decoder skips line breaks, which people get from `base64` and paste.
        if text.contains(['\n', '\r']) {
            text.retain(|c| !matches!(c, '\n' | '\r'));
        }
        if let Err(error) = STANDARD.decode(text.as_bytes()) {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(at) => at - at % 4,
                base64::DecodeError::InvalidPadding => text.trim_end_matches('=').len(),
            };
            self.format(format!("illegal base64 data at input byte {at}"), place);
        }
    }

    fn time(&mut self, text: &mut String, place: &Place<'_>, digits: u8) {
        let fits = text.len() == usize::from(if digits == 0 { 20 } else { 21 + digits });
        let Ok(time) = text.parse::<jiff::Timestamp>() else {
            let layout =
                if digits == 0 { "2006-01-02T15:04:05Z07:00" } else { "2006-01-02T15:04:05.000000Z07:00" };
            let message = format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"");
            return self.format(message, place);
        };
        if !(fits && text.ends_with('Z')) {
            *text = format!("{time:.*}", usize::from(digits));
        }
    }

    fn format(&mut self, message: String, place: &Place<'_>) {
        self.error(SchemaError::Format { message, path: place.path() });
    }

    fn wrong_type(&mut self, schema: &Schema, value: &Value, place: &Place<'_>) {
        let path = place.struct_path();
        let type_name = self.enclosing_type(place);
        self.error(SchemaError::Type {
            found: describe(schema, value),
            place: match (path.is_empty(), type_name.is_empty()) {
                (true, _) => "value".to_owned(),
                (false, true) => format!("struct field .{path}"),
                (false, false) => format!("struct field {type_name}.{path}"),
            },
            expected: GoType(schema).to_string(),
            path: place.path(),
        });
    }

    /// The struct that has the field. The place's own type is what was expected there.
    fn enclosing_type(&self, place: &Place<'_>) -> String {
        let field = std::iter::successors(Some(place), |place| place.parent)
            .find(|place| matches!(place.step, Step::Field(_)));
        match field.and_then(|field| field.parent) {
            Some(Place { step: Step::Root, .. }) | None => self.root.type_name(),
            Some(place) => place.type_name.to_owned(),
        }
    }

    fn error(&mut self, error: SchemaError) {
        if self.report.errors.len() < MAX_FAULTS {
            self.report.errors.push(error);
        }
    }
}

/// `PodSpec` for `io.k8s.api.core.v1.PodSpec`; nothing for types without a name.
fn short_name(index: u16) -> &'static str {
    match builtin::name(index) {
        Some(name) => name.rsplit('.').next().unwrap_or(name),
        None => "",
    }
}

/// A null, or a zero value where that means the same.
fn is_absent(field: &Field, value: &Value) -> bool {
    let shape = &field.schema.shape;
    match value {
        Value::Null => !field.schema.nullable,
        _ if !field.zero_is_absent => false,
        // The zero of another type is a mistake like any other value of it.
        Value::Bool(value) => !value && matches!(shape, Shape::Boolean | Shape::Any(_)),
        Value::Number(number) => {
            number.as_i64() == Some(0)
                && !matches!(
                    shape,
                    Shape::Boolean
                        | Shape::String
                        | Shape::Bytes
                        | Shape::List(_)
                        | Shape::Map(_)
                        | Shape::Object(_)
                )
        }
        Value::String(text) => {
            text.is_empty()
                && !matches!(
                    shape,
                    Shape::Boolean
                        | Shape::Int32
                        | Shape::Int64
                        | Shape::Number
                        | Shape::List(_)
                        | Shape::Map(_)
                        | Shape::Object(_)
                )
        }
        Value::Array(items) => items.is_empty() && matches!(shape, Shape::List(_) | Shape::Any(_)),
        Value::Object(entries) => {
            entries.is_empty() && matches!(shape, Shape::Map(_) | Shape::Object(_) | Shape::Any(_))
        }
    }
}

/// What an explicit null stands for inside a list or map: Go's zero value.
fn zero(schema: &Schema) -> Value {
    match &schema.shape {
        Shape::Boolean => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => Value::Number(Number::from(0)),
        Shape::String | Shape::Bytes => Value::String(String::new()),
        Shape::Quantity => Value::String("0".to_owned()),
        Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Time | Shape::MicroTime | Shape::Any(_) => Value::Null,
    }
}

fn describe(schema: &Schema, value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        // Go says which number where it tried to read it as one.
        Value::Number(number) if matches!(schema.shape, Shape::Int32 | Shape::Int64) => {
            format!("number {number}")
        }
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// A type as Go writes it.
struct GoType<'a>(&'a Schema);

impl fmt::Display for GoType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.shape {
            Shape::Any(_) => f.write_str("interface {}"),
            Shape::Boolean => f.write_str("bool"),
            Shape::Int32 => f.write_str("int32"),
            Shape::Int64 => f.write_str("int64"),
            Shape::Number => f.write_str("float64"),
            Shape::String => f.write_str("string"),
            Shape::Bytes => f.write_str("[]uint8"),
            Shape::Time | Shape::MicroTime => f.write_str("string"),
            Shape::Quantity => f.write_str("resource.Quantity"),
            Shape::IntOrString => f.write_str("intstr.IntOrString"),
            Shape::List(List { items, .. }) => write!(f, "[]{}", GoRef(items)),
            Shape::Map(map) => write!(f, "map[string]{}", GoRef(&map.values)),
            Shape::Object(_) => f.write_str(&object_name(self.0)),
        }
    }
}

struct GoRef<'a>(&'a SchemaRef);

impl fmt::Display for GoRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        GoType(self.0).fmt(f)
    }
}

/// `v1.PodSpec`. Only asked for in an error, so that a search through the table is good enough.
fn object_name(schema: &Schema) -> String {
    let definition =
        builtin::definitions().iter().find(|definition| std::ptr::eq(&definition.schema, schema));
    match definition.map(|definition| definition.name.as_str()).filter(|name| !name.starts_with('~')) {
        Some(name) => {
            let mut parts = name.rsplit('.');
            let kind = parts.next().unwrap_or_default();
            format!("{}.{kind}", parts.next().unwrap_or_default())
        }
        None => "map[string]interface {}".to_owned(),
    }
}

#[cfg(test)]
mod tests;
