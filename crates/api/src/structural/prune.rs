//! Dropping what a schema does not specify.

use serde_json::Value;

use super::{Additional, META_FIELDS, Structural};
use crate::field::Path;

/// Paths beyond this many are not told: a hostile object must not make a huge answer.
const MAX_PATHS: usize = 100;

/// Drops the fields that the schema does not have and returns their paths (`spec.ports[0].x`). `apiVersion`, `kind` and
/// `metadata` of the object itself and of embedded ones stay.
pub fn prune(object: &mut Value, schema: &Structural) -> Vec<String> {
    let mut dropped = Vec::new();
    node(object, Some(schema), true, &Path::ROOT, &mut dropped);
    dropped
}

fn node(
    value: &mut Value,
    schema: Option<&Structural>,
    resource: bool,
    path: &Path<'_>,
    dropped: &mut Vec<String>,
) {
    match value {
        Value::Object(entries) => {
            let keeps = schema.is_some_and(|schema| schema.preserve_unknown);
            let resource = resource || schema.is_some_and(|schema| schema.embedded);
            entries.retain(|key, value| {
                if resource && META_FIELDS.contains(&key.as_str()) {
                    return true;
                }
                let path = path.child(key);
                let additional = schema.map(|schema| &schema.additional);
                match (schema.and_then(|schema| schema.field(key)), additional) {
                    (Some(schema), _) => node(value, Some(schema), false, &path, dropped),
                    (None, Some(Additional::Of(values))) => node(value, Some(values), false, &path, dropped),
                    (None, Some(Additional::Any)) => {}
                    _ if keeps => {}
                    _ => {
                        if dropped.len() < MAX_PATHS {
                            dropped.push(path.to_string());
                        }
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            let schema = match schema {
                Some(schema) => match schema.items.as_deref() {
                    Some(items) => Some(items),
                    // Whatever it is, it is kept.
                    None if schema.preserve_unknown => return,
                    None => None,
                },
                None => None,
            };
            for (index, item) in items.iter_mut().enumerate() {
                node(item, schema, false, &path.index(index), dropped);
            }
        }
        _ => {}
    }
}
