//! Messages to JSON values. The bytes come from outside: nothing is trusted, nothing is allocated ahead.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::{MAGIC, ProtobufError, at, bad, json_schema_props};
use crate::codec::wire::{Reader, WireValue};
use crate::schema::{Field, List, Object, Opaque, Schema, Shape};

type Result<T> = std::result::Result<T, ProtobufError>;

/// Deeper messages are refused. Only `JSONSchemaProps` is recursive at all.
const MAX_DEPTH: usize = 100;

/// Reads the bare message of an object. `depth` counts the messages around it.
pub(super) fn message(schema: &Schema, bytes: &[u8], depth: usize) -> Result<Value> {
    body(schema, bytes, depth)
}

/// The content of a message: of everything that is one on the wire.
fn body(schema: &Schema, bytes: &[u8], depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    match &schema.shape {
        Shape::Object(object) => {
            let mut entries = Map::new();
            fields(object, &[], bytes, &mut entries, depth)?;
            Ok(Value::Object(entries))
        }
        Shape::Time => time(bytes, 0),
        Shape::MicroTime => time(bytes, 6),
        Shape::Quantity => Ok(Value::String(only_text(bytes)?.to_owned())),
        Shape::IntOrString => int_or_string(bytes),
        Shape::Any(opaque) => any(*opaque, bytes, depth),
        Shape::List(List { items, .. }) => {
            let mut values = Vec::new();
            let mut reader = Reader::new(bytes);
            while let Some(field) = reader.field()? {
                if field.number == 1 {
                    push(items, field.value, &mut values, depth)?;
                }
            }
            Ok(Value::Array(values))
        }
        _ => Err(bad("a message where there is none")),
    }
}

/// The fields of an object, or of a message embedded in it, to which `path` leads.
fn fields(
    object: &Object,
    path: &[u32],
    bytes: &[u8],
    entries: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    while let Some(wire) = reader.field()? {
        let below = |field: &&Field| match field.tags.strip_prefix(path) {
            Some([number, ..]) => *number == wire.number,
            _ => false,
        };
        // A number stands either for a field or for an embedded message, in which case any of its fields tells so.
        let Some(field) = object.fields.iter().find(below) else { continue };
        if field.tags.len() == path.len() + 1 {
            entry(field, wire.value, entries, depth).map_err(|error| at(&field.name, error))?;
        } else {
            let longer = field.tags.get(..=path.len()).unwrap_or_default();
            fields(object, longer, wire.value.bytes()?, entries, depth + 1)?;
        }
    }
    Ok(())
}

/// Sets a field, or adds to it where it may occur several times.
fn entry(field: &Field, wire: WireValue<'_>, entries: &mut Map<String, Value>, depth: usize) -> Result<()> {
    match &field.schema.shape {
        Shape::List(list) if !list.wrapped => {
            let slot = entries.entry(field.name.as_ref()).or_insert_with(|| Value::Array(Vec::new()));
            match slot {
                Value::Array(values) => push(&list.items, wire, values, depth),
                _ => Ok(()),
            }
        }
        Shape::Map(map) => {
            let slot = entries.entry(field.name.as_ref()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(all) = slot else { return Ok(()) };
            let (mut key, mut value) = (String::new(), None);
            let mut reader = Reader::new(wire.bytes()?);
            while let Some(part) = reader.field()? {
                match part.number {
                    1 => key = part.text("key")?.to_owned(),
                    2 => {
                        value = Some(single(&map.values, part.value, depth).map_err(|error| at(&key, error))?)
                    }
                    _ => {}
                }
            }
            // A value that is left out is the zero value of its type.
            let value = match value {
                Some(value) => value,
                None => zero(&map.values),
            };
            all.insert(key, value);
            Ok(())
        }
        // A message that comes in parts is one message.
        Shape::Object(object) => match entries.get_mut(field.name.as_ref()) {
            Some(Value::Object(known)) => fields(object, &[], wire.bytes()?, known, depth + 1),
            _ => {
                let value = single(&field.schema, wire, depth)?;
                entries.insert(field.name.to_string(), value);
                Ok(())
            }
        },
        _ => {
            let value = single(&field.schema, wire, depth)?;
            if !value.is_null() {
                entries.insert(field.name.to_string(), value);
            }
            Ok(())
        }
    }
}

/// Adds to a list: one item, or several where numbers are packed.
fn push(items: &Schema, wire: WireValue<'_>, values: &mut Vec<Value>, depth: usize) -> Result<()> {
    match (&items.shape, wire) {
        (Shape::Boolean | Shape::Int32 | Shape::Int64, WireValue::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                values.push(single(items, WireValue::Varint(reader.varint()?), depth)?);
            }
        }
        (Shape::Number, WireValue::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                values.push(single(items, WireValue::Fixed64(reader.fixed64()?), depth)?);
            }
        }
        _ => values.push(single(items, wire, depth)?),
    }
    Ok(())
}

fn single(schema: &Schema, wire: WireValue<'_>, depth: usize) -> Result<Value> {
    Ok(match &schema.shape {
        Shape::Boolean => Value::Bool(wire.varint()? != 0),
        // The low 32 bits count, as in every protobuf library.
        Shape::Int32 => Value::Number((wire.varint()? as i32).into()),
        Shape::Int64 => Value::Number(wire.varint()?.cast_signed().into()),
        Shape::Number => {
            let number = f64::from_bits(wire.fixed64()?);
            Value::Number(Number::from_f64(number).ok_or_else(|| bad("not a finite number"))?)
        }
        Shape::String => Value::String(wire.text()?.to_owned()),
        Shape::Bytes => Value::String(STANDARD.encode(wire.bytes()?)),
        _ => body(schema, wire.bytes()?, depth + 1)?,
    })
}

fn zero(schema: &Schema) -> Value {
    match &schema.shape {
        Shape::Boolean => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => Value::Number(0.into()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Object(_) => Value::Object(Map::new()),
        Shape::Quantity => Value::String("0".to_owned()),
        _ => Value::String(String::new()),
    }
}

/// Nothing at all is the zero time, which JSON has as null.
fn time(bytes: &[u8], digits: usize) -> Result<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => seconds = field.value.varint()?.cast_signed(),
            2 => nanos = field.value.varint()? as i32,
            _ => {}
        }
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| bad("a time outside of years 1 to 9999"))?;
    Ok(Value::String(format!("{time:.digits$}")))
}

fn only_text(bytes: &[u8]) -> Result<&str> {
    let mut text = "";
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        if field.number == 1 {
            text = field.value.text()?;
        }
    }
    Ok(if text.is_empty() { "0" } else { text })
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0_i32, "");
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => is_text = field.value.varint()? == 1,
            2 => number = field.value.varint()? as i32,
            3 => text = field.value.text()?,
            _ => {}
        }
    }
    Ok(if is_text { Value::String(text.to_owned()) } else { Value::Number(number.into()) })
}

fn any(opaque: Opaque, bytes: &[u8], depth: usize) -> Result<Value> {
    let mut reader = Reader::new(bytes);
    let schema = || json_schema_props().ok_or_else(|| bad("the schema of JSONSchemaProps is missing"));
    let (mut one, mut many, mut allows) = (None, Vec::new(), None);
    while let Some(field) = reader.field()? {
        match (opaque, field.number) {
            (Opaque::Raw | Opaque::Json, 1) => one = Some(raw(field.value.bytes()?, depth)?),
            (Opaque::SchemaOrBool, 1) => allows = Some(field.value.varint()? != 0),
            (Opaque::SchemaOrBool, 2) | (Opaque::SchemaOrArray | Opaque::SchemaOrStrings, 1) => {
                one = Some(body(&*schema()?, field.value.bytes()?, depth + 1)?);
            }
            (Opaque::SchemaOrArray, 2) => many.push(body(&*schema()?, field.value.bytes()?, depth + 1)?),
            (Opaque::SchemaOrStrings, 2) => many.push(Value::String(field.value.text()?.to_owned())),
            _ => {}
        }
    }
    Ok(match (opaque, one) {
        (_, Some(value)) => value,
        (Opaque::SchemaOrBool, None) => Value::Bool(allows.unwrap_or(false)),
        (Opaque::SchemaOrArray | Opaque::SchemaOrStrings, None) => Value::Array(many),
        (Opaque::Raw | Opaque::Json, None) => Value::Null,
    })
}

/// JSON text, or an object in an envelope of its own.
fn raw(bytes: &[u8], depth: usize) -> Result<Value> {
    match bytes {
        [] => Ok(Value::Null),
        bytes if bytes.starts_with(MAGIC) => super::decode_nested(bytes, depth + 1),
        bytes => serde_json::from_slice(bytes).map_err(|error| bad(format!("embedded JSON: {error}"))),
    }
}
