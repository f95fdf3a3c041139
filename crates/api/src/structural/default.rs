//! Filling in what an object leaves out.

use serde_json::Value;

use super::{Additional, Structural};

/// Drops nulls where null is no value, then fills in defaults.
pub fn default(object: &mut Value, schema: &Structural) {
    drop_nulls(object, schema);
    fill(object, schema);
}

/// Whether the schema has anything that [`default`] could fill in.
pub fn has_defaults(schema: &Structural) -> bool {
    schema.any(&mut |schema| schema.default.is_some())
}

/// Drops nulls where null is no value and there is no default in its place.
pub fn drop_nulls(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(entries) => entries.retain(|key, value| match schema.child(key) {
            Some(schema) if schema.refuses_null(value) => schema.default.is_some(),
            Some(schema) => {
                drop_nulls(value, schema);
                true
            }
            None => true,
        }),
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_deref() {
                items.iter_mut().for_each(|item| drop_nulls(item, schema));
            }
        }
        _ => {}
    }
}

/// Fills in defaults, also below values that are defaults themselves. A null that no type would refuse goes.
pub fn fill(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(entries) => {
            let meaningless = |field: &Structural| field.default.is_none() && !field.judges_null();
            entries.retain(|key, value| {
                let field = schema.child(key).filter(|field| field.refuses_null(value));
                !field.is_some_and(meaningless)
            });
            for (name, field) in &schema.fields {
                let Some(default) = &field.default else { continue };
                if entries.get(&**name).is_none_or(|value| field.refuses_null(value)) {
                    entries.insert(name.to_string(), Value::clone(default));
                }
            }
            for (key, value) in entries.iter_mut() {
                if let Some(field) = schema.field(key) {
                    fill(value, field);
                } else if let Additional::Of(values) = &schema.additional {
                    replace_null(value, values);
                    fill(value, values);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_deref() {
                for item in items {
                    replace_null(item, schema);
                    fill(item, schema);
                }
            }
        }
        _ => {}
    }
}

fn replace_null(value: &mut Value, schema: &Structural) {
    if let (true, Some(default)) = (schema.refuses_null(value), &schema.default) {
        *value = Value::clone(default);
    }
}
