//! Structural schemas as types.
//!
//! Sizes come along: what `maxItems`, `maxProperties`, `maxLength` allow, or else what a request of the largest size
//! could hold. From them the cost of an expression is estimated before any object exists.

use api::schema::{Schema, Shape};
use serde_json::Value as Json;

use crate::types::{ListKind, ListType, Sized, Type, UNBOUNDED};

/// The largest request, in bytes: what limits sizes that a schema does not.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
/// Deeper parts of a schema are not looked into.
const MAX_DEPTH: u32 = 64;

/// The type of what a schema describes. `root`: it is a whole object, custom resource or embedded.
pub fn declared(schema: &Json, root: bool) -> Type {
    sized(schema, root).of
}

/// The same, with its size.
pub fn sized(schema: &Json, root: bool) -> Sized {
    read(schema, root, "object", MAX_DEPTH).unwrap_or(ANY)
}

/// What nothing is known of.
const ANY: Sized = Sized { of: Type::Dyn, max: MAX_REQUEST };

/// `None` for what has no type: expressions do not see it, so that they cannot come to rely on what is in it.
fn read(schema: &Json, root: bool, path: &str, depth: u32) -> Option<Sized> {
    let flag = |name: &str| schema[name].as_bool().unwrap_or(false);
    let root = root || flag("x-kubernetes-embedded-resource");
    if depth == 0 || flag("x-kubernetes-int-or-string") {
        return Some(ANY);
    }
    match schema["type"].as_str()? {
        "boolean" => Some(Type::Bool.into()),
        "integer" => Some(Type::Int.into()),
        "number" => Some(Type::Double.into()),
        "string" => Some(string(schema)),
        "array" => array(schema, path, depth),
        "object" => object(schema, root, path, depth),
        _ => None,
    }
}

fn string(schema: &Json) -> Sized {
    let of = match schema["format"].as_str() {
        Some("byte") => Type::Bytes,
        Some("duration") => Type::Duration,
        Some("date" | "date-time") => Type::Timestamp,
        _ => Type::String,
    };
    let declared = schema["maxLength"].as_u64();
    let longest = schema["enum"].as_array().map(|values| {
        values.iter().filter_map(Json::as_str).map(|value| value.chars().count() as u64).max().unwrap_or(0)
    });
    // Without the two quotes.
    let max = declared.or(longest).unwrap_or(MAX_REQUEST - 2);
    Sized { of, max }
}

fn array(schema: &Json, path: &str, depth: u32) -> Option<Sized> {
    let items = &schema["items"];
    let element = read(items, false, &format!("{path}.@idx"), depth - 1)?;
    let kind = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            let keys = keys.into_iter().flatten().filter_map(Json::as_str);
            ListKind::Map(keys.filter_map(crate::escape::escaped).collect())
        }
        _ => ListKind::Atomic,
    };
    // Each element with a comma.
    let possible = MAX_REQUEST / (smallest(items, depth - 1) + 1);
    let max = schema["maxItems"].as_u64().unwrap_or(possible);
    Some(Sized { of: Type::List(ListType { element, kind }.into()), max })
}

fn object(schema: &Json, root: bool, path: &str, depth: u32) -> Option<Sized> {
    let additional = &schema["additionalProperties"];
    if additional.is_object() && !schema["properties"].is_object() {
        let value = read(additional, false, &format!("{path}.@elem"), depth - 1)?;
        // An empty key with its quotes, a colon and a comma.
        let possible = MAX_REQUEST / (smallest(additional, depth - 1) + 4);
        let max = schema["maxProperties"].as_u64().unwrap_or(possible);
        let key = Sized { of: Type::String, max: MAX_REQUEST };
        return Some(Sized { of: Type::map(key, value), max });
    }
    let mut fields: Vec<(String, Sized)> = Vec::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let of = read(property, false, &format!("{path}.{name}"), depth - 1);
        fields.extend(of.map(|of| (name.clone(), of)));
    }
    if root {
        let text = || Sized { of: Type::String, max: MAX_REQUEST };
        let metadata = [("name".to_owned(), text()), ("generateName".to_owned(), text())];
        let metadata = Type::object(&format!("{path}.metadata"), metadata);
        fields.push(("apiVersion".to_owned(), text()));
        fields.push(("kind".to_owned(), text()));
        fields.push(("metadata".to_owned(), metadata.into()));
    }
    Some(Sized { of: Type::object(path, fields), max: UNBOUNDED })
}

/// The bytes that the smallest value of the schema takes.
fn smallest(schema: &Json, depth: u32) -> u64 {
    if depth == 0 {
        return 1;
    }
    match schema["type"].as_str() {
        Some("boolean") => 4,
        Some("string") => match schema["format"].as_str() {
            Some("date") => 12,
            Some("date-time") => 22,
            Some("duration") => 3,
            _ => 2,
        },
        Some("array") => 2,
        Some("object") => {
            let properties = &schema["properties"];
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
            // Quotes, a colon and a comma, besides the name and the value.
            let each = required.map(|name| name.len() as u64 + 4 + smallest(&properties[name], depth - 1));
            2 + each.sum::<u64>()
        }
        _ => 1,
    }
}

/// The type of a built-in kind, or anything without a schema.
pub fn builtin(schema: Option<&Schema>) -> Type {
    schema.map_or(Type::Dyn, |schema| of_builtin(schema, "object", &mut Vec::new()))
}

/// `around` are the objects that this one is within: what refers to itself may be anything there.
fn of_builtin<'s>(schema: &'s Schema, path: &str, around: &mut Vec<&'s Schema>) -> Type {
    if around.len() >= MAX_DEPTH as usize || around.iter().any(|outer| std::ptr::eq(*outer, schema)) {
        return Type::Dyn;
    }
    around.push(schema);
    let of = match &schema.shape {
        Shape::Any(_) | Shape::IntOrString => Type::Dyn,
        Shape::Boolean => Type::Bool,
        Shape::Int32 | Shape::Int64 => Type::Int,
        Shape::Number => Type::Double,
        Shape::String | Shape::Quantity => Type::String,
        Shape::Bytes => Type::Bytes,
        Shape::Time | Shape::MicroTime => Type::Timestamp,
        Shape::List(list) => Type::list(of_builtin(&list.items, &format!("{path}.@idx"), around)),
        Shape::Map(map) => Type::map(Type::String, of_builtin(&map.values, &format!("{path}.@elem"), around)),
        Shape::Object(object) => {
            let mut fields: Vec<(String, Sized)> = Vec::new();
            for field in &object.fields {
                let of = of_builtin(&field.schema, &format!("{path}.{}", field.name), around);
                fields.push((field.name.to_string(), of.into()));
            }
            Type::object(path, fields)
        }
    };
    around.pop();
    of
}
