//! `allOf`, `anyOf`, `oneOf` and `not`: they may only judge what the schema around them specifies.

use serde_json::{Map, Value, json};

use super::super::read::{given, is_true};
use crate::field::{FieldErrors, Path};

/// What gives shape and therefore may not be repeated.
const SHAPE: [&str; 13] = [
    "type",
    "default",
    "title",
    "description",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

/// Checks the combinations in this node; those in nodes below are theirs.
pub fn check(schema: &Map<String, Value>, path: &Path<'_>, errors: &mut FieldErrors) {
    let int_or_string = schema.get("x-kubernetes-int-or-string").is_some_and(is_true);
    each(schema, path, &mut |key, index, inner, at| {
        if int_or_string && is_the_pattern(schema, key, index) {
            return;
        }
        node(inner, schema, path, at, errors);
    });
}

fn each(schema: &Map<String, Value>, path: &Path<'_>, visit: &mut dyn FnMut(&str, usize, &Value, &Path<'_>)) {
    for key in ["allOf", "anyOf", "oneOf"] {
        let list = path.child(key);
        for (index, inner) in schema.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            visit(key, index, inner, &list.index(index));
        }
    }
    if let Some(inner) = schema.get("not").filter(|inner| given(inner)) {
        visit("not", 0, inner, &path.child("not"));
    }
}

/// The types that `x-kubernetes-int-or-string` stands for may be written out: `anyOf: [integer, string]`, alone or as
/// the first of `allOf`.
fn is_the_pattern(schema: &Map<String, Value>, key: &str, index: usize) -> bool {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    match key {
        "anyOf" => schema.get("anyOf") == Some(&both),
        "allOf" => {
            index == 0
                && schema.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("anyOf"))
                    == Some(&both)
        }
        _ => false,
    }
}

/// `inner` judges values of `outer`.
fn node(
    inner: &Value,
    outer: &Map<String, Value>,
    outer_path: &Path<'_>,
    path: &Path<'_>,
    errors: &mut FieldErrors,
) {
    let Some(fields) = inner.as_object() else {
        return errors.invalid(path, inner.clone(), "must be a schema object");
    };
    for key in
        SHAPE.iter().filter(|key| fields.get(**key).is_some_and(|value| given(value) && value != false))
    {
        let detail = match *key {
            "default" | "additionalProperties" => "must be undefined to be structural",
            "nullable" => "must be false to be structural",
            key if key.starts_with("x-kubernetes-") && fields.get(key).is_some_and(Value::is_boolean) => {
                "must be false to be structural"
            }
            _ => "must be empty to be structural",
        };
        errors.forbidden(&path.child(key), detail);
    }
    let (properties, outer_properties) = (path.child("properties"), outer_path.child("properties"));
    for (name, below) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let (at, outer_at) = (properties.key(name), outer_properties.key(name));
        let specified =
            outer.get("properties").and_then(|properties| properties.get(name)).and_then(Value::as_object);
        match specified {
            Some(outer) => node(below, outer, &outer_at, &at, errors),
            None => errors.required(&outer_at, format!("because it is defined in {at}")),
        }
    }
    if let Some(below) = fields.get("items").filter(|items| given(items)) {
        let (at, outer_at) = (path.child("items"), outer_path.child("items"));
        match outer.get("items").and_then(Value::as_object) {
            Some(outer) => node(below, outer, &outer_at, &at, errors),
            None => errors.required(&outer_at, format!("because it is defined in {at}")),
        }
    }
    each(fields, path, &mut |_, _, inner, at| node(inner, outer, outer_path, at, errors));
}
