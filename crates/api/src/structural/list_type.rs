//! Sets and associative lists: no item may be there twice.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{ListType, Structural};
use crate::field::{FieldErrors, Path};

/// The first item of each list that has been there before.
pub fn check(value: &Value, schema: &Structural, path: &Path<'_>, errors: &mut FieldErrors) {
    schema.visit(value, path, &mut |schema, value, path| {
        if let (Value::Array(items), Some(_)) = (value, &schema.items) {
            duplicates(items, schema, path, errors);
        }
    });
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
            return errors.duplicate(&path.index(index), identity);
        }
    }
}

/// Whether there is anything to check.
pub fn has_lists(schema: &Structural) -> bool {
    schema.any(&mut |schema| schema.list_type != ListType::Atomic)
}
