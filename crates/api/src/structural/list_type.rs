//! Sets and associative lists: no item may be there twice.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Additional, ListType, Structural};
use crate::field::{FieldErrors, Path};

/// Items that occur more than once, all of them but the first.
pub fn check(value: &Value, schema: &Structural, path: &Path<'_>, errors: &mut FieldErrors) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match (schema.field(key), &schema.additional) {
                    (Some(schema), _) => check(value, schema, &path.child(key), errors),
                    (None, Additional::Of(values)) => check(value, values, &path.key(key), errors),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(schema_of_items) = schema.items.as_deref() else { return };
            duplicates(items, schema, path, errors);
            for (index, item) in items.iter().enumerate() {
                check(item, schema_of_items, &path.index(index), errors);
            }
        }
        _ => {}
    }
}

fn duplicates(items: &[Value], schema: &Structural, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let identity = match &schema.list_type {
            ListType::Atomic => return,
            ListType::Set => item.clone(),
            ListType::Map(keys) => match item {
                Value::Object(item) => keys
                    .iter()
                    .filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())))
                    .collect::<Map<_, _>>()
                    .into(),
                _ => continue,
            },
        };
        // Maps of values are sorted: the same value is the same text.
        if !seen.insert(identity.to_string()) {
            errors.duplicate(&path.index(index), identity);
        }
    }
}

/// Whether there is anything to check.
pub fn has_lists(schema: &Structural) -> bool {
    schema.any(&mut |schema| schema.list_type != ListType::Atomic)
}
