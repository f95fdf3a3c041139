//! JSON values to messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{ProtobufError, at, bad, json_schema_props, type_name};
use crate::codec::wire::{BYTES, FIXED64, VARINT, put_bytes, put_message, put_tag, put_varint};
use crate::schema::{Field, List, Object, Opaque, Schema, Shape};

type Result<T> = std::result::Result<T, ProtobufError>;

/// Writes an object as the bare message of its type, without an envelope. Fields that have no number are left out.
pub fn encode_message(schema: &Schema, object: &Value) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    body(&mut out, schema, object)?;
    Ok(out)
}

/// The content of a message: of everything that is one on the wire.
fn body(out: &mut Vec<u8>, schema: &Schema, value: &Value) -> Result<()> {
    match (&schema.shape, value) {
        (Shape::Object(object), Value::Object(entries)) => fields(out, object, entries),
        (Shape::Time | Shape::MicroTime, Value::String(text)) => time(out, text),
        (Shape::Time | Shape::MicroTime, Value::Null) => Ok(()),
        (Shape::Quantity, Value::String(text)) => {
            put_bytes(out, 1, text.as_bytes());
            Ok(())
        }
        (Shape::Quantity, Value::Number(number)) => {
            put_bytes(out, 1, number.to_string().as_bytes());
            Ok(())
        }
        (Shape::IntOrString, value) => int_or_string(out, value),
        (Shape::Any(opaque), value) => any(out, *opaque, value),
        (Shape::List(List { items, wrapped: true, .. }), Value::Array(values)) => {
            values.iter().try_for_each(|value| field(out, 1, items, value))
        }
        _ => Err(bad(format!("{value} is not {}", type_name(schema)))),
    }
}

/// An object's fields in the order of their numbers, as upstream writes them.
fn fields(out: &mut Vec<u8>, object: &Object, entries: &Map<String, Value>) -> Result<()> {
    let mut present: Vec<(&Field, &Value)> = entries
        .iter()
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, value)| Some((object.field(name)?, value)))
        .filter(|(field, _)| !field.tags.is_empty())
        .collect();
    present.sort_by(|(one, _), (other, _)| one.tags.cmp(&other.tags));
    embedded(out, &present, 0)
}

/// Fields of which the first `depth` numbers are dealt with. Those that share the next one, and have more, are in a
/// message of their own.
fn embedded(out: &mut Vec<u8>, present: &[(&Field, &Value)], depth: usize) -> Result<()> {
    let number = |field: &Field| field.tags.get(depth).copied().unwrap_or_default();
    for group in present.chunk_by(|(one, _), (other, _)| number(one) == number(other)) {
        for (known, value) in group.iter().filter(|(field, _)| field.tags.len() == depth + 1) {
            field(out, number(known), &known.schema, value).map_err(|error| at(&known.name, error))?;
        }
        let nested: Vec<_> =
            group.iter().filter(|(field, _)| field.tags.len() > depth + 1).copied().collect();
        if let Some((first, _)) = nested.first() {
            put_message(out, number(first), |out| embedded(out, &nested, depth + 1))?;
        }
    }
    Ok(())
}

/// One field with its number.
fn field(out: &mut Vec<u8>, number: u32, schema: &Schema, value: &Value) -> Result<()> {
    let mismatch = || bad(format!("{value} is not {}", type_name(schema)));
    match &schema.shape {
        Shape::Boolean => {
            put_tag(out, number, VARINT);
            put_varint(out, u64::from(value.as_bool().ok_or_else(mismatch)?));
        }
        Shape::Int32 | Shape::Int64 => {
            put_tag(out, number, VARINT);
            // Negative numbers take ten bytes: their two's complement in 64 bits.
            put_varint(out, value.as_i64().ok_or_else(mismatch)?.cast_unsigned());
        }
        Shape::Number => {
            put_tag(out, number, FIXED64);
            out.extend_from_slice(&value.as_f64().ok_or_else(mismatch)?.to_le_bytes());
        }
        Shape::String => put_bytes(out, number, value.as_str().ok_or_else(mismatch)?.as_bytes()),
        Shape::Bytes => put_bytes(out, number, &bytes(value.as_str().ok_or_else(mismatch)?)?),
        Shape::List(list) if !list.wrapped => {
            for item in value.as_array().ok_or_else(mismatch)? {
                field(out, number, &list.items, item)?;
            }
        }
        Shape::Map(map) => {
            for (key, value) in value.as_object().ok_or_else(mismatch)? {
                put_message(out, number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    field(out, 2, &map.values, value).map_err(|error| at(key, error))
                })?;
            }
        }
        _ => put_message(out, number, |out| body(out, schema, value))?,
    }
    Ok(())
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(bad)
}

fn time(out: &mut Vec<u8>, text: &str) -> Result<()> {
    let time: Timestamp = text.parse().map_err(|_| bad(format!("{text:?} is not an RFC 3339 time")))?;
    // Rounded down, with the fraction counted upwards from there, also before 1970.
    let nanos = time.subsec_nanosecond();
    let (seconds, nanos) =
        if nanos < 0 { (time.as_second() - 1, nanos + 1_000_000_000) } else { (time.as_second(), nanos) };
    put_tag(out, 1, VARINT);
    put_varint(out, seconds.cast_unsigned());
    put_tag(out, 2, VARINT);
    put_varint(out, i64::from(nanos).cast_unsigned());
    Ok(())
}

fn int_or_string(out: &mut Vec<u8>, value: &Value) -> Result<()> {
    let (kind, number, text) = match value {
        Value::Number(number) => (0, number.as_i64().ok_or_else(|| bad("not a whole number"))?, ""),
        Value::String(text) => (1, 0, text.as_str()),
        other => return Err(bad(format!("{other} is neither an integer nor a string"))),
    };
    put_tag(out, 1, VARINT);
    put_varint(out, kind);
    put_tag(out, 2, VARINT);
    put_varint(out, number.cast_unsigned());
    put_bytes(out, 3, text.as_bytes());
    Ok(())
}

fn any(out: &mut Vec<u8>, opaque: Opaque, value: &Value) -> Result<()> {
    let schema = || json_schema_props().ok_or_else(|| bad("the schema of JSONSchemaProps is missing"));
    match (opaque, value) {
        (Opaque::Raw | Opaque::Json, value) => put_bytes(out, 1, value.to_string().as_bytes()),
        (Opaque::SchemaOrBool, Value::Bool(allows)) => {
            put_tag(out, 1, VARINT);
            put_varint(out, u64::from(*allows));
        }
        (Opaque::SchemaOrBool, value) => {
            put_tag(out, 1, VARINT);
            put_varint(out, 1);
            field(out, 2, &*schema()?, value)?;
        }
        (Opaque::SchemaOrArray, Value::Array(schemas)) => {
            let schema = schema()?;
            schemas.iter().try_for_each(|value| field(out, 2, &schema, value))?;
        }
        (Opaque::SchemaOrStrings, Value::Array(names)) => {
            for name in names {
                put_tag(out, 2, BYTES);
                let name = name.as_str().ok_or_else(|| bad(format!("{name} is not a string")))?;
                put_varint(out, name.len() as u64);
                out.extend_from_slice(name.as_bytes());
            }
        }
        (Opaque::SchemaOrArray | Opaque::SchemaOrStrings, value) => field(out, 1, &*schema()?, value)?,
    }
    Ok(())
}
