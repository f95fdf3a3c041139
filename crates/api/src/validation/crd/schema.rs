//! Whether a schema is structural: every value has a type, and what is specified is specified once.

use serde_json::{Map, Value};

use super::super::read::{given, is_true, items, text};
use super::nested;
use crate::field::{FieldErrors, Path};
use crate::structural::{Structural, default, pattern, prune, validate};

/// Where in a schema a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What has no meaning for structural schemas.
const UNSUPPORTED: [&str; 7] =
    ["id", "$ref", "$schema", "definitions", "dependencies", "patternProperties", "additionalItems"];
/// What may stand at the root where the status is a subresource.
const AT_ROOT: [&str; 25] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Enum",
    "MaxProperties",
    "MinProperties",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// Errors beyond these say nothing new, and a schema can be large.
const ENOUGH: usize = 100;

pub fn check(schema: &Value, status: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    if is_true(&schema["nullable"]) {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    if status {
        at_root(schema, path, errors);
    }
    node(schema, Level::Root, path, errors);
}

fn at_root(schema: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (key, value) in schema.as_object().into_iter().flatten() {
        let name = match key.strip_prefix("x-kubernetes-") {
            Some(rest) => rest.split('-').fold("X".to_owned(), |name, part| name + &capitalized(part)),
            None => capitalized(key),
        };
        if given(value) && value != &Value::Bool(false) && !AT_ROOT.contains(&name.as_str()) {
            let detail = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                AT_ROOT.join(" ")
            );
            return errors.invalid(path, shown(schema), detail);
        }
    }
}

/// A value in an error, without its whole length.
fn shown(schema: &Value) -> Value {
    Value::String(schema.to_string().chars().take(256).collect())
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

fn node(schema: &Value, level: Level, path: &Path<'_>, errors: &mut FieldErrors) {
    if errors.len() > ENOUGH {
        return;
    }
    let Some(fields) = schema.as_object() else {
        return errors.invalid(path, schema.clone(), "must be a schema object");
    };
    for key in UNSUPPORTED.iter().filter(|key| schema.get(**key).is_some_and(given)) {
        match *key {
            "$schema" => errors.invalid(path, "", "OpenAPIV3Schema 'schema' is not supported"),
            key => errors.forbidden(&path.child(key), format!("{key} is not supported")),
        }
    }
    if is_true(&schema["uniqueItems"]) {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), detail);
    }
    kind(schema, level, path, errors);
    map(schema, path, errors);
    extensions(schema, path, errors);
    list(schema, path, errors);
    metadata(schema, level, path, errors);
    values(schema, path, errors);
    nested::check(fields, path, errors);
    below(schema, path, errors);
}

fn kind(schema: &Value, level: Level, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = text(&schema["type"]);
    let path_of_type = path.child("type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(&path_of_type, kind, &TYPES);
        if kind == "null" {
            let detail = "type cannot be set to null, use nullable as an alternative";
            errors.forbidden(&path_of_type, detail);
        }
        return;
    }
    let free = is_true(&schema["x-kubernetes-int-or-string"])
        || is_true(&schema["x-kubernetes-preserve-unknown-fields"]);
    if is_true(&schema["x-kubernetes-embedded-resource"]) {
        const DETAIL: &str = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "object" => {}
            "" => errors.required(&path_of_type, DETAIL),
            _ => errors.invalid(&path_of_type, kind, DETAIL),
        }
    } else if kind.is_empty() && !free {
        errors.required(
            &path_of_type,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Field => "must not be empty for specified object fields",
                Level::Item => "must not be empty for specified array items",
            },
        );
    }
    if level == Level::Root && !matches!(kind, "" | "object") {
        errors.invalid(&path_of_type, kind, "must be object at the root");
    }
    if kind == "array"
        && !given(&schema["items"])
        && !is_true(&schema["x-kubernetes-preserve-unknown-fields"])
    {
        errors.required(&path.child("items"), "must be specified");
    }
}

fn map(schema: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let additional = &schema["additionalProperties"];
    let path = path.child("additionalProperties");
    let properties = schema["properties"].as_object().is_some_and(|properties| !properties.is_empty());
    if additional == &Value::Bool(false) && properties {
        errors.forbidden(&path, "additionalProperties cannot be set to false");
    } else if given(additional) && properties {
        errors.forbidden(&path, "additionalProperties and properties are mutual exclusive");
    }
    if given(additional) && is_true(&schema["x-kubernetes-embedded-resource"]) {
        errors.forbidden(&path, "must not be used if x-kubernetes-embedded-resource is set");
    }
}

fn extensions(schema: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
    const EMBEDDED: &str = "x-kubernetes-embedded-resource";
    if schema[PRESERVE] == false {
        errors.invalid(&path.child(PRESERVE), false, "must be true or undefined");
    }
    if is_true(&schema["x-kubernetes-int-or-string"]) {
        for other in [PRESERVE, EMBEDDED] {
            if is_true(&schema[other]) {
                errors.invalid(
                    &path.child(other),
                    true,
                    "must be false if x-kubernetes-int-or-string is true",
                );
            }
        }
        let kind = text(&schema["type"]);
        if !kind.is_empty() {
            errors.invalid(&path.child("type"), kind, "must be empty if x-kubernetes-int-or-string is true");
        }
    }
    let no_properties = schema["properties"].as_object().is_none_or(Map::is_empty);
    if is_true(&schema[EMBEDDED]) && !is_true(&schema[PRESERVE]) && no_properties {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), detail);
    }
    let map_type = &schema["x-kubernetes-map-type"];
    if given(map_type) {
        if !matches!(text(map_type), "atomic" | "granular") {
            let path = path.child("x-kubernetes-map-type");
            errors.not_supported(&path, map_type.clone(), &["atomic", "granular"]);
        }
        let kind = text(&schema["type"]);
        if kind != "object" {
            errors.invalid(&path.child("type"), kind, "must be object if x-kubernetes-map-type is specified");
        }
    }
}

fn list(schema: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const TYPE: &str = "x-kubernetes-list-type";
    const KEYS: &str = "x-kubernetes-list-map-keys";
    let list_type = text(&schema[TYPE]);
    let kind = text(&schema["type"]);
    if given(&schema[TYPE]) {
        const DETAIL: &str = "must be array if x-kubernetes-list-type is specified";
        match kind {
            "array" => {}
            "" => errors.required(&path.child("type"), DETAIL),
            _ => errors.invalid(&path.child("type"), kind, DETAIL),
        }
        if !matches!(list_type, "atomic" | "set" | "map") {
            errors.not_supported(&path.child(TYPE), list_type, &["atomic", "set", "map"]);
        }
    }
    let keys = items(&schema[KEYS]);
    if !keys.is_empty() && list_type != "map" {
        const DETAIL: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            "" => errors.required(&path.child(TYPE), DETAIL),
            _ => errors.invalid(&path.child(TYPE), list_type, DETAIL),
        }
    }
    let of = &schema["items"];
    let items_path = path.child("items");
    match list_type {
        "map" => {
            if keys.is_empty() {
                errors.required(&path.child(KEYS), "must not be empty if x-kubernetes-list-type is map");
            }
            if !given(of) {
                return errors.required(&items_path, "must have a schema if x-kubernetes-list-type is map");
            }
            if text(&of["type"]) != "object" {
                let detail = "must be object if parent array's x-kubernetes-list-type is map";
                return errors.invalid(&items_path.child("type"), of["type"].clone(), detail);
            }
            if is_true(&of["nullable"]) {
                let detail = "cannot be nullable when x-kubernetes-list-type is map";
                errors.forbidden(&items_path.child("nullable"), detail);
            }
            map_keys(keys, of, path, errors);
        }
        "set" => {
            let path = items_path;
            if is_true(&of["nullable"]) {
                errors.forbidden(
                    &path.child("nullable"),
                    "cannot be nullable when x-kubernetes-list-type is set",
                );
            }
            match text(&of["type"]) {
                "object" if text(&of["x-kubernetes-map-type"]) != "atomic" => {
                    let path = path.child("x-kubernetes-map-type");
                    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
                    errors.invalid(&path, of["x-kubernetes-map-type"].clone(), detail);
                }
                "array" if !matches!(text(&of[TYPE]), "" | "atomic") => {
                    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
                    errors.invalid(&path.child(TYPE), of[TYPE].clone(), detail);
                }
                _ => {}
            }
        }
        _ => {}
    }
}

fn map_keys(keys: &[Value], of: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let items_path = path.child("items");
    let properties = items_path.child("properties");
    let mut seen = std::collections::HashSet::new();
    for key in keys {
        let name = text(key);
        if !seen.insert(name) {
            errors.invalid(&keys_path, keys.to_vec(), "must not contain duplicate entries");
        }
        let property = &of["properties"][name];
        let at = properties.key(name);
        if !given(property) {
            errors.invalid(&keys_path, keys.to_vec(), "entries must all be names of item properties");
            continue;
        }
        if matches!(text(&property["type"]), "array" | "object") {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid(&at.child("type"), property["type"].clone(), detail);
        }
        if is_true(&property["nullable"]) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&at.child("nullable"), detail);
        }
        if !given(&property["default"]) && !items(&of["required"]).contains(key) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&at.child("default"), detail);
        }
    }
}

/// Metadata is implied; of its own an author may only restrict names.
fn metadata(schema: &Value, level: Level, path: &Path<'_>, errors: &mut FieldErrors) {
    if level != Level::Root && !is_true(&schema["x-kubernetes-embedded-resource"]) {
        return;
    }
    let properties = path.child("properties");
    for (name, kind) in [("metadata", "object"), ("apiVersion", "string"), ("kind", "string")] {
        let property = &schema["properties"][name];
        if given(property) && text(&property["type"]) != kind {
            let at = properties.key(name);
            errors.invalid(&at.child("type"), property["type"].clone(), format!("must be {kind}"));
        }
    }
    let metadata = &schema["properties"]["metadata"];
    let allowed = ["type", "properties"];
    let odd = metadata.as_object().into_iter().flatten().any(|(key, _)| !allowed.contains(&key.as_str()));
    let fields = metadata["properties"].as_object();
    let more = fields.into_iter().flatten().any(|(key, _)| !matches!(key.as_str(), "name" | "generateName"));
    if level == Level::Root && (odd || more) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&properties.key("metadata"), detail);
    }
}

/// Patterns have to compile, defaults to be what the schema asks for.
fn values(schema: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(expression) = schema["pattern"].as_str()
        && let Err(problem) = pattern::compile(expression)
    {
        let detail = format!("must be a valid regular expression, but isn't: {problem}");
        errors.invalid(&path.child("pattern"), expression, detail);
    }
    for allowed in items(&schema["enum"]).iter().filter(|allowed| allowed.is_null()) {
        if !is_true(&schema["nullable"]) {
            errors.invalid(&path.child("enum"), allowed.clone(), "must not be null unless nullable is true");
        }
    }
    let Some(value) = schema.get("default").filter(|value| !value.is_null()) else { return };
    let path = path.child("default");
    let parsed = Structural::parse(schema);
    let mut complete = value.clone();
    default::default(&mut complete, &parsed);
    let mut pruned = complete.clone();
    let dropped = match parsed.embedded {
        true => Vec::new(),
        false => prune_value(&mut pruned, &parsed),
    };
    if !dropped.is_empty() {
        errors.invalid(&path, value.clone(), "must not have unknown fields");
    }
    for mut error in validate::validate_at(&complete, &parsed, &path) {
        // What is said of values names the field, which a default has not got.
        if let Some(problem) = error.detail.strip_prefix(&format!("{path} in body ")) {
            error.detail = format!(" in body {problem}");
        }
        errors.push(error);
    }
    crate::structural::metadata::check(&complete, &parsed, &path, errors);
}

/// A default is no object of the API: `metadata` in it is a field like others.
fn prune_value(value: &mut Value, schema: &Structural) -> Vec<String> {
    let mut dropped = prune::prune(value, schema);
    if let Value::Object(entries) = value {
        let known =
            |key: &str| schema.child(key).is_some() || schema.preserve_unknown || schema.is_free_map();
        dropped.extend(
            crate::structural::META_FIELDS
                .iter()
                .filter(|key| entries.contains_key(**key) && !known(key))
                .map(|key| (*key).to_owned()),
        );
    }
    dropped
}

fn below(schema: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let properties = path.child("properties");
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        node(property, Level::Field, &properties.key(name), errors);
    }
    match &schema["items"] {
        Value::Array(_) => {
            errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
        }
        items if given(items) => node(items, Level::Item, &path.child("items"), errors),
        _ => {}
    }
    if let additional @ Value::Object(_) = &schema["additionalProperties"] {
        node(additional, Level::Field, &path.child("additionalProperties"), errors);
    }
}
