//! `apiVersion`, `kind` and `metadata` of an object and of objects embedded in it.

use serde_json::Value;

use super::Structural;
use crate::field::{FieldErrors, Path};
use crate::schema::{SchemaError, SchemaReport, builtin};
use crate::validation::{metadata_contents, names};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Brings the metadata of the object and of embedded ones into shape. Unknown fields are dropped and told, values of
/// a wrong type are errors.
pub fn coerce(object: &mut Value, schema: &Structural) -> SchemaReport {
    let mut report = SchemaReport::default();
    node(object, schema, true, &Path::ROOT, &mut report);
    report
}

fn node(value: &mut Value, schema: &Structural, resource: bool, path: &Path<'_>, report: &mut SchemaReport) {
    match value {
        Value::Object(entries) => {
            let resource = resource || schema.embedded;
            for (key, value) in entries.iter_mut() {
                let path = path.child(key);
                match key.as_str() {
                    "metadata" if resource => object_meta(value, &path, report),
                    "apiVersion" | "kind" if resource => {
                        if !value.is_string() {
                            report.errors.push(SchemaError::Format {
                                message: format!(".{path} accessor error: {value} is not of the type string"),
                                path: path.to_string(),
                            });
                        }
                    }
                    _ => {
                        if let Some(schema) = schema.child(key) {
                            node(value, schema, false, &path, report);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_deref() {
                for (index, item) in items.iter_mut().enumerate() {
                    node(item, schema, false, &path.index(index), report);
                }
            }
        }
        _ => {}
    }
}

fn object_meta(metadata: &mut Value, path: &Path<'_>, report: &mut SchemaReport) {
    if metadata.is_null() {
        *metadata = Value::Object(serde_json::Map::new());
    }
    let Some(schema) = builtin::named(OBJECT_META) else { return };
    let mut found = schema.check(metadata);
    report.unknown.extend(found.unknown.drain(..).map(|field| format!("{path}.{field}")));
    report.errors.append(&mut found.errors);
}

/// What is wrong with embedded objects: those that are marked as such have to be objects of the API.
pub fn check(value: &Value, schema: &Structural, path: &Path<'_>, errors: &mut FieldErrors) {
    schema.visit(value, path, &mut |schema, value, path| {
        if schema.embedded && value.is_object() {
            embedded(value, path, errors);
        }
    });
}

fn embedded(object: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let api_version = text("apiVersion");
    if api_version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
    } else if let Err(error) = api_version.parse::<crate::gvk::GroupVersion>() {
        errors.invalid(&path.child("apiVersion"), api_version, error.to_string());
    }
    let kind = text("kind");
    if kind.is_empty() {
        errors.required(&path.child("kind"), "");
    } else if let Some(problem) = names::dns1035_label(&kind.to_lowercase()) {
        let detail = format!("may have mixed case, but should otherwise match: {problem}");
        errors.invalid(&path.child("kind"), kind, detail);
    }
    if let Some(metadata) = object.get("metadata") {
        metadata_contents(metadata, &path.child("metadata"), errors);
    }
}

/// Whether the schema has embedded objects.
pub fn has_embedded(schema: &Structural) -> bool {
    schema.any(&mut |schema| schema.embedded)
}
