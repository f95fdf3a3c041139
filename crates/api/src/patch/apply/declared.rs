//! Fields that an applied configuration has and the schema has not, and values that are not of its types. Who applies
//! owns what he names, so that such a field is refused however leniently other writes treat it.

use serde_json::Value;

use super::set::{display, field};
use super::typed::{associative, element};
use crate::field::GoValue;
use crate::schema::{Object, Schema, Shape};

/// More are not told.
const MAX: usize = 100;

/// The complaints about a configuration, each as `.spec.foo: field not declared in schema`.
pub fn undeclared(applied: &Value, schema: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    walk(applied, Some(schema), &mut Vec::new(), &mut found);
    found
}

fn walk(value: &Value, schema: Option<&Schema>, path: &mut Vec<String>, found: &mut Vec<String>) {
    match (value, schema.map(|schema| &schema.shape)) {
        (Value::Object(entries), Some(shape @ (Shape::Object(_) | Shape::Map(_)))) => {
            for (key, value) in entries {
                path.push(field(key));
                match shape {
                    Shape::Object(object) if !declares(object, key, path.len()) => {
                        if found.len() < MAX {
                            let path: Vec<&str> = path.iter().map(String::as_str).collect();
                            found.push(format!("{}: field not declared in schema", display(&path)));
                        }
                    }
                    _ => walk(value, schema.and_then(|schema| schema.child(key)), path, found),
                }
                path.pop();
            }
        }
        (Value::Array(items), Some(Shape::List(list))) => {
            for (index, item) in items.iter().enumerate() {
                let keyed = associative(schema).and_then(|list| element(list, item));
                path.push(keyed.unwrap_or_else(|| format!("i:{index}")));
                walk(item, Some(&list.items), path, found);
                path.pop();
            }
        }
        (value, Some(shape)) => {
            if let Some(expected) = other_type(value, shape)
                && found.len() < MAX
            {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                found.push(format!("{}: expected {expected}", display(&path)));
            }
        }
        _ => {}
    }
}

/// What is expected in the place of a value of another type, and what is there, as Go writes both.
fn other_type(value: &Value, shape: &Shape) -> Option<String> {
    let whole = |expected: &str| Some(format!("{expected}, got &{{{}}}", GoValue(value)));
    let scalar = |expected: &str| {
        let shown = match value {
            Value::String(text) => crate::field::quote(text),
            value => GoValue(value).to_string(),
        };
        Some(format!("{expected}, got &value.valueUnstructured{{Value:{shown}}}"))
    };
    match (shape, value) {
        (_, Value::Null) => None,
        (Shape::Object(_) | Shape::Map(_), _) => whole("map"),
        (Shape::List(_), _) => whole("list"),
        (Shape::String | Shape::Bytes, Value::String(_)) => None,
        (Shape::String | Shape::Bytes, _) => scalar("string"),
        (Shape::Boolean, Value::Bool(_)) => None,
        (Shape::Boolean, _) => scalar("boolean"),
        (Shape::Int32 | Shape::Int64 | Shape::Number, Value::Number(_)) => None,
        (Shape::Int32 | Shape::Int64 | Shape::Number, _) => scalar("numeric (int or float)"),
        (Shape::Time | Shape::MicroTime, Value::Object(_) | Value::Array(_)) => whole("any scalar"),
        _ => None,
    }
}

fn declares(object: &Object, key: &str, depth: usize) -> bool {
    let of_every_object =
        (depth == 1 || object.embedded) && matches!(key, "apiVersion" | "kind" | "metadata");
    object.preserve_unknown || of_every_object || object.field(key).is_some()
}
