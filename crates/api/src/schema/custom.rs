//! The schema of a custom resource, from the structural OpenAPI schema in its definition.
//!
//! What is taken over is what gives an object its shape: types, fields, pruning, defaults, list types. Bounds,
//! patterns and rules are validation's business and stay in the author's document.

use serde_json::Value;

use super::{Field, List, ListType, Map, Object, Opaque, Schema, SchemaRef, Shape, builtin};

/// Deeper schemas are refused.
const MAX_DEPTH: usize = 100;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A schema that is not structural.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct CustomSchemaError {
    /// `spec.replicas`, of the objects described.
    pub path: String,
    pub problem: String,
}

impl Schema {
    /// The schema of a kind from `spec.versions[*].schema.openAPIV3Schema`. `apiVersion`, `kind` and `metadata`, which
    /// every object has, are added.
    pub fn of_custom_resource(openapi: &Value) -> Result<Schema, CustomSchemaError> {
        let mut schema = convert(openapi, 0)?;
        if let Shape::Object(object) = &mut schema.shape {
            add_object_fields(object);
        }
        Ok(schema)
    }
}

fn add_object_fields(object: &mut Object) {
    let own = ["apiVersion", "kind", "metadata"];
    object.fields.retain(|field| !own.contains(&field.name.as_ref()));
    for name in own {
        let schema = match name {
            "metadata" => {
                builtin::named(OBJECT_META).unwrap_or_else(|| Schema::from(Shape::Any(Opaque::Json)).into())
            }
            _ => Schema::from(Shape::String).into(),
        };
        object.fields.push(plain_field(name, schema));
    }
    object.fields.sort_by(|one, other| one.name.cmp(&other.name));
}

fn plain_field(name: &str, schema: SchemaRef) -> Field {
    Field {
        name: name.to_owned().into(),
        schema,
        required: false,
        patch_merge: false,
        patch_retain_keys: false,
        patch_merge_key: None,
        default: None,
        zero_is_absent: false,
        tags: Box::default(),
    }
}

fn convert(openapi: &Value, depth: usize) -> Result<Schema, CustomSchemaError> {
    if depth > MAX_DEPTH {
        return Err(problem("the schema is nested too deeply"));
    }
    let flag = |key: &str| openapi.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| openapi.get(key).and_then(Value::as_str).unwrap_or_default();
    let shape = match (text("type"), text("format")) {
        _ if flag("x-kubernetes-int-or-string") => Shape::IntOrString,
        ("boolean", _) => Shape::Boolean,
        ("integer", "int32") => Shape::Int32,
        ("integer", _) => Shape::Int64,
        ("number", _) => Shape::Number,
        // Kept as it was written whatever its format: formats are only validated.
        ("string", _) => Shape::String,
        ("array", _) => Shape::List(list(openapi, depth)?),
        ("object", _) => object(openapi, depth)?,
        ("", _) if flag("x-kubernetes-preserve-unknown-fields") => Shape::Any(Opaque::Json),
        ("", _) => return Err(problem("must not be empty for specified object fields")),
        (other, _) => return Err(problem(format!("unsupported type {other:?}"))),
    };
    Ok(Schema { shape, nullable: flag("nullable") })
}

fn list(openapi: &Value, depth: usize) -> Result<List, CustomSchemaError> {
    let items = openapi.get("items").ok_or_else(|| problem("an array must say what its items are"))?;
    let items = convert(items, depth + 1).map_err(|error| within("[]", error))?;
    let list_type = match openapi.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(names(openapi, "x-kubernetes-list-map-keys").map(Into::into).collect()),
        _ => ListType::Atomic,
    };
    Ok(List { items: items.into(), list_type, wrapped: false })
}

fn object(openapi: &Value, depth: usize) -> Result<Shape, CustomSchemaError> {
    let atomic = openapi.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
    let flag = |key: &str| openapi.get(key).and_then(Value::as_bool).unwrap_or(false);
    let preserve_unknown = flag("x-kubernetes-preserve-unknown-fields");
    match openapi.get("additionalProperties") {
        Some(values @ Value::Object(_)) => {
            let values = convert(values, depth + 1).map_err(|error| within("*", error))?;
            return Ok(Shape::Map(Map { values: values.into(), atomic }));
        }
        Some(Value::Bool(true)) => {
            let values = Schema { shape: Shape::Any(Opaque::Json), nullable: true };
            return Ok(Shape::Map(Map { values: values.into(), atomic }));
        }
        _ => {}
    }
    let required: Vec<String> = names(openapi, "required").collect();
    let mut fields = Vec::new();
    for (name, property) in openapi.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let schema = convert(property, depth + 1).map_err(|error| within(name, error))?;
        fields.push(Field {
            required: required.contains(name),
            default: property.get("default").cloned().map(Box::new),
            ..plain_field(name, schema.into())
        });
    }
    fields.sort_by(|one, other| one.name.cmp(&other.name));
    let mut object =
        Object { fields, atomic, preserve_unknown, embedded: flag("x-kubernetes-embedded-resource") };
    if object.embedded {
        add_object_fields(&mut object);
    }
    Ok(Shape::Object(object))
}

fn names(openapi: &Value, key: &str) -> impl Iterator<Item = String> {
    let names = openapi.get(key).and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned)
}

fn problem(problem: impl Into<String>) -> CustomSchemaError {
    CustomSchemaError { path: String::new(), problem: problem.into() }
}

/// Says where, on the way out of the recursion.
fn within(step: &str, error: CustomSchemaError) -> CustomSchemaError {
    let path = match error.path.as_str() {
        "" => step.to_owned(),
        below if below.starts_with('[') => format!("{step}{below}"),
        below => format!("{step}.{below}"),
    };
    CustomSchemaError { path, problem: error.problem }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::SchemaReport;

    fn crontab() -> Schema {
        Schema::of_custom_resource(&json!({
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["cron"],
                    "properties": {
                        "cron": {"type": "string"},
                        "replicas": {"type": "integer", "default": 1},
                        "size": {"x-kubernetes-int-or-string": true},
                        "ports": {
                            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                            "items": {"type": "object", "properties": {"port": {"type": "integer"}}},
                        },
                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        "any": {"x-kubernetes-preserve-unknown-fields": true},
                        "none": {"type": "string", "nullable": true},
                        "pod": {"type": "object", "x-kubernetes-embedded-resource": true},
                    },
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_specified_is_pruned() {
        let mut object = json!({
            "apiVersion": "example.com/v1", "kind": "CronTab", "metadata": {"name": "x", "odd": 1}, "status": {},
            "spec": {
                "cron": "* *", "replicas": 0, "size": 5_000_000_000_i64, "ports": [{"port": 1, "x": 1}],
                "labels": {}, "free": {"a": {"b": 1}}, "any": [1], "none": null,
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}},
            },
        });
        let mut report = crontab().check(&mut object);
        report.unknown.sort();
        assert_eq!(
            report,
            SchemaReport {
                unknown: ["metadata.odd", "spec.pod.spec", "spec.ports[0].x", "status"]
                    .map(str::to_owned)
                    .into(),
                errors: Vec::new()
            }
        );
        assert_eq!(
            object,
            json!({
                "apiVersion": "example.com/v1", "kind": "CronTab", "metadata": {"name": "x"},
                "spec": {
                    "cron": "* *", "replicas": 0, "size": 5_000_000_000_i64, "ports": [{"port": 1}],
                    "labels": {}, "free": {"a": {"b": 1}}, "any": [1], "none": null,
                    "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
                },
            })
        );
    }

    #[test]
    fn facts_for_patches_and_defaults_are_kept() {
        let schema = crontab();
        let spec = schema.child("spec").unwrap();
        assert_eq!(spec.child("ports").unwrap().list_type(), Some(&ListType::Map(vec!["port".into()])));
        assert_eq!(spec.field("replicas").unwrap().default.as_deref(), Some(&json!(1)));
        assert!(spec.field("cron").unwrap().required);
    }

    #[test]
    fn schemas_that_are_not_structural_are_refused() {
        #[track_caller]
        fn check(openapi: Value, want: &str) {
            assert_eq!(Schema::of_custom_resource(&openapi).unwrap_err().to_string(), want);
        }
        let spec = |schema: Value| json!({"type": "object", "properties": {"spec": schema}});
        check(spec(json!({})), "spec: must not be empty for specified object fields");
        check(spec(json!({"type": "array", "items": {"type": "date"}})), "spec[]: unsupported type \"date\"");
        let mut deep = json!({"type": "string"});
        for _ in 0..120 {
            deep = json!({"type": "array", "items": deep});
        }
        assert!(Schema::of_custom_resource(&deep).unwrap_err().problem.contains("too deeply"));
    }
}
