//! The author's schema as OpenAPI shows it.
//!
//! Version 3 is shown as it was written, with what every object has. Version 2 cannot say everything: what it cannot,
//! and what makes old clients refuse good objects, is left out.

use serde_json::{Map, Value, json};

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The definition of a kind in OpenAPI 2. `metadata` is what refers to the definition of ObjectMeta.
pub fn v2(schema: &Value, metadata: Value) -> Value {
    let mut schema = schema.clone();
    simplify(&mut schema);
    complete(&mut schema, described(metadata));
    embed(&mut schema, false);
    schema
}

/// The same in OpenAPI 3.
pub fn v3(schema: &Value, metadata: Value) -> Value {
    let mut schema = schema.clone();
    complete(&mut schema, json!({"allOf": [metadata], "description": METADATA}));
    embed(&mut schema, true);
    schema
}

fn described(mut metadata: Value) -> Value {
    metadata["description"] = METADATA.into();
    metadata
}

fn complete(schema: &mut Value, metadata: Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    let properties = schema.entry("properties").or_insert_with(|| Map::new().into());
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("apiVersion".to_owned(), json!({"type": "string", "description": API_VERSION}));
        properties.insert("kind".to_owned(), json!({"type": "string", "description": KIND}));
        properties.insert("metadata".to_owned(), metadata);
    }
}

/// Calls `visit` for every schema below `schema` and for itself, from the inside out.
fn visit(schema: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(fields) = schema.as_object_mut() else { return };
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| visit(property, change));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = fields.get_mut(key) {
            visit(below, change);
        }
    }
    change(fields);
}

fn is_true(fields: &Map<String, Value>, key: &str) -> bool {
    fields.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn simplify(schema: &mut Value) {
    // A field that may be null cannot be required of clients that know no null.
    visit(schema, &mut |fields| {
        let nullable: Vec<String> = fields
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(_, property)| {
                property.as_object().is_some_and(|property| is_true(property, "x-nullable"))
            })
            .map(|(name, _)| name.clone())
            .collect();
        if let Some(required) = fields.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| !nullable.iter().any(|nullable| name == nullable));
            if required.is_empty() {
                fields.remove("required");
            }
        }
        for key in ["allOf", "anyOf", "oneOf", "not"] {
            fields.remove(key);
        }
        if is_true(fields, "nullable") {
            for key in ["type", "nullable", "items", "properties", "additionalProperties"] {
                fields.remove(key);
            }
            fields.insert("x-nullable".to_owned(), true.into());
        }
        if is_true(fields, "x-kubernetes-preserve-unknown-fields") {
            // Clients take what is specified for all that there is.
            fields.remove("items");
            fields.remove("properties");
        }
        if is_true(fields, "x-kubernetes-int-or-string") {
            fields.remove("type");
        }
    });
    visit(schema, &mut |fields| drop(fields.remove("x-nullable")));
}

fn embed(schema: &mut Value, v3: bool) {
    let reference = if v3 { "#/components/schemas/" } else { "#/definitions/" };
    visit(schema, &mut |fields| {
        if !is_true(fields, "x-kubernetes-embedded-resource") {
            return;
        }
        let metadata = json!({"$ref": format!("{reference}{OBJECT_META}")});
        let metadata =
            if v3 { json!({"allOf": [metadata], "description": METADATA}) } else { described(metadata) };
        let mut whole = Value::Object(std::mem::take(fields));
        complete(&mut whole, metadata);
        if let Value::Object(whole) = whole {
            *fields = whole;
        }
    });
}

/// What embedded objects' metadata refers to; a document that has a custom resource has this definition too.
pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
