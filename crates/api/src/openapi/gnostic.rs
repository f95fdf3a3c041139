//! The v2 document as protobuf (`gnostic.openapi.v2.Document`), which kubectl up to 1.28 insists on for `apply` and
//! `explain`. Newer ones read v3 as JSON.
//!
//! It is made from the JSON document, and says what the clients look at: definitions, and the operations of paths
//! with their parameters and extensions.

use serde_json::Value;

use crate::codec::wire::{put_bytes, put_tag, put_varint};

const VARINT: u8 = 0;

/// Parts that have the same shape wherever they stand: written to a buffer of their own, then with their number.
fn message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(out, number, &inner);
}

pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    text(&mut out, 1, document.get("swagger"));
    message(&mut out, 2, |out| {
        text(out, 1, document.pointer("/info/title"));
        text(out, 2, document.pointer("/info/version"));
    });
    message(&mut out, 8, |out| {
        named(out, 2, document.get("paths"), path_item);
    });
    message(&mut out, 9, |out| named(out, 1, document.get("definitions"), schema));
    out
}

/// `{name: value}` as repeated messages of a name and a value.
fn named(out: &mut Vec<u8>, number: u32, entries: Option<&Value>, write: fn(&mut Vec<u8>, &Value)) {
    for (name, value) in entries.and_then(Value::as_object).into_iter().flatten() {
        message(out, number, |out| {
            put_bytes(out, 1, name.as_bytes());
            message(out, 2, |out| write(out, value));
        });
    }
}

fn text(out: &mut Vec<u8>, number: u32, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str) {
        put_bytes(out, number, text.as_bytes());
    }
}

fn texts(out: &mut Vec<u8>, number: u32, value: Option<&Value>) {
    for item in value.and_then(Value::as_array).into_iter().flatten() {
        text(out, number, Some(item));
    }
}

fn flag(out: &mut Vec<u8>, number: u32, value: Option<&Value>) {
    if let Some(value) = value.and_then(Value::as_bool) {
        put_tag(out, number, VARINT);
        put_varint(out, u64::from(value));
    }
}

/// Extensions are YAML texts, which JSON is.
fn extensions(out: &mut Vec<u8>, number: u32, object: &Value) {
    let all = object.as_object().into_iter().flatten();
    for (name, value) in all.filter(|(name, _)| name.starts_with("x-")) {
        message(out, number, |out| {
            put_bytes(out, 1, name.as_bytes());
            message(out, 2, |out| put_bytes(out, 2, value.to_string().as_bytes()));
        });
    }
}

fn path_item(out: &mut Vec<u8>, item: &Value) {
    for (method, number) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(value) = item.get(method) {
            message(out, number, |out| operation(out, value));
        }
    }
    parameters(out, 9, item);
}

fn operation(out: &mut Vec<u8>, operation: &Value) {
    texts(out, 1, operation.get("tags"));
    text(out, 3, operation.get("description"));
    text(out, 5, operation.get("operationId"));
    texts(out, 6, operation.get("produces"));
    texts(out, 7, operation.get("consumes"));
    parameters(out, 8, operation);
    extensions(out, 13, operation);
}

fn parameters(out: &mut Vec<u8>, number: u32, of: &Value) {
    for parameter in of.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default();
        // A parameter that is no reference, then the kind of parameter it is.
        message(out, number, |out| {
            message(out, 1, |out| match place {
                "body" => message(out, 1, |out| body(out, parameter)),
                "path" => message(out, 2, |out| message(out, 4, |out| simple(out, parameter, 5))),
                _ => message(out, 2, |out| message(out, 3, |out| simple(out, parameter, 6))),
            });
        });
    }
}

fn body(out: &mut Vec<u8>, parameter: &Value) {
    text(out, 2, parameter.get("name"));
    text(out, 3, parameter.get("in"));
    flag(out, 4, parameter.get("required"));
    if let Some(value) = parameter.get("schema") {
        message(out, 5, |out| schema(out, value));
    }
}

fn simple(out: &mut Vec<u8>, parameter: &Value, type_number: u32) {
    flag(out, 1, parameter.get("required"));
    text(out, 2, parameter.get("in"));
    text(out, 3, parameter.get("description"));
    text(out, 4, parameter.get("name"));
    text(out, type_number, parameter.get("type"));
}

fn schema(out: &mut Vec<u8>, value: &Value) {
    text(out, 1, value.get("$ref"));
    text(out, 2, value.get("format"));
    text(out, 4, value.get("description"));
    texts(out, 19, value.get("required"));
    if let Some(values) = value.get("additionalProperties").filter(|values| values.is_object()) {
        message(out, 21, |out| message(out, 1, |out| schema(out, values)));
    }
    if value.get("type").is_some_and(Value::is_string) {
        message(out, 22, |out| text(out, 1, value.get("type")));
    }
    if let Some(items) = value.get("items") {
        message(out, 23, |out| message(out, 1, |out| schema(out, items)));
    }
    if value.get("properties").and_then(Value::as_object).is_some_and(|properties| !properties.is_empty()) {
        message(out, 25, |out| named(out, 1, value.get("properties"), schema));
    }
    extensions(out, 31, value);
}
