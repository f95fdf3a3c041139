//! From the author's document to a [`Structural`].

use serde_json::Value;

use super::format::Format;
use super::pattern::Pattern;
use super::{Additional, Checks, ListType, Rule, Structural, Type};

/// Deeper than any document that the decoders let through.
const MAX_DEPTH: usize = 200;

impl Structural {
    /// Reads an `openAPIV3Schema`.
    pub fn parse(schema: &Value) -> Self {
        node(schema, 0)
    }
}

fn node(schema: &Value, depth: usize) -> Structural {
    if depth > MAX_DEPTH {
        return Structural { preserve_unknown: true, ..Structural::default() };
    }
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    let below = |schema: &Value| node(schema, depth + 1);
    let mut fields: Vec<(Box<str>, Structural)> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.as_str().into(), below(schema)))
        .collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    Structural {
        kind: Type::parse(text("type")),
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        map_atomic: text("x-kubernetes-map-type") == "atomic",
        list_type: match text("x-kubernetes-list-type") {
            "set" => ListType::Set,
            "map" => ListType::Map(names(schema, "x-kubernetes-list-map-keys")),
            _ => ListType::Atomic,
        },
        fields: fields.into(),
        additional: match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => Additional::Any,
            Some(values @ Value::Object(_)) => Additional::Of(Box::new(below(values))),
            _ => Additional::None,
        },
        items: schema.get("items").filter(|items| items.is_object()).map(|items| Box::new(below(items))),
        default: schema.get("default").filter(|value| !value.is_null()).cloned().map(Box::new),
        checks: checks(schema, depth),
        rules: schema
            .get("x-kubernetes-validations")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(Rule::parse)
            .collect(),
    }
}

/// `None` where nothing is checked, which is so for most nodes.
fn checks(schema: &Value, depth: usize) -> Option<Box<Checks>> {
    const KEYS: [&str; 18] = [
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "enum",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "exclusiveMinimum",
    ];
    if !KEYS.iter().any(|key| schema.get(*key).is_some_and(|value| !value.is_null())) {
        return None;
    }
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let number = |key: &str| match schema.get(key) {
        Some(Value::Number(number)) => Some(number.clone()),
        _ => None,
    };
    // A bound below nothing is no bound that anything could break.
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    let all = |key: &str| -> Box<[Structural]> {
        let list = schema.get(key).and_then(Value::as_array).into_iter().flatten();
        list.map(|schema| node(schema, depth + 1)).collect()
    };
    Some(Box::new(Checks {
        minimum: number("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        maximum: number("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: text("pattern").filter(|pattern| !pattern.is_empty()).map(Pattern::new),
        format: text("format").and_then(Format::parse),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        required: names(schema, "required"),
        allowed: schema.get("enum").and_then(Value::as_array).into_iter().flatten().cloned().collect(),
        all_of: all("allOf"),
        any_of: all("anyOf"),
        one_of: all("oneOf"),
        not: schema.get("not").filter(|not| not.is_object()).map(|not| Box::new(node(not, depth + 1))),
    }))
}

fn names(schema: &Value, key: &str) -> Box<[Box<str>]> {
    let names = schema.get(key).and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(Into::into).collect()
}
