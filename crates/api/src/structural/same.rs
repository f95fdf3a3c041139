//! What of an object is as it was: items of lists that have keys are found again by them, wherever they stand now.

use std::collections::HashMap;

use serde_json::Value;

use super::{ListType, Structural};

/// Whether a value says what the old one said.
pub fn same(value: &Value, old: &Value, schema: Option<&Structural>) -> bool {
    match (value, old) {
        (Value::Object(new), Value::Object(entries)) => {
            let child = |key: &str| schema.and_then(|schema| schema.child(key));
            new.len() == entries.len()
                && new
                    .iter()
                    .all(|(key, value)| entries.get(key).is_some_and(|old| same(value, old, child(key))))
        }
        (Value::Array(new), Value::Array(items)) => {
            let of_items = schema.and_then(|schema| schema.items.as_deref());
            let Some(known) = OldItems::of(Some(old), schema) else { return new == items };
            new.len() == items.len()
                && new.iter().all(|item| known.find(item).is_some_and(|old| same(item, old, of_items)))
        }
        _ => value == old,
    }
}

/// The items of an old list, by their keys.
pub struct OldItems<'v, 's> {
    keys: &'s [Box<str>],
    items: HashMap<String, &'v Value>,
}

impl<'v, 's> OldItems<'v, 's> {
    /// `None` where items have no keys, or there was no list.
    pub fn of(old: Option<&'v Value>, schema: Option<&'s Structural>) -> Option<Self> {
        let ListType::Map(keys) = &schema?.list_type else { return None };
        let items = old?.as_array()?.iter().map(|item| (identity(item, keys), item));
        // The first of several alike, which lists from before there were keys may have.
        Some(Self { keys, items: items.rev().collect() })
    }

    pub fn find(&self, item: &Value) -> Option<&'v Value> {
        self.items.get(&identity(item, self.keys)).copied()
    }
}

fn identity(item: &Value, keys: &[Box<str>]) -> String {
    let mut out = String::new();
    for key in keys {
        out.push_str(&item.get(&**key).unwrap_or(&Value::Null).to_string());
        out.push(',');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_matters_only_where_items_have_no_keys() {
        let schema = Structural::parse(&json!({"type": "object", "properties": {
            "keyed": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}},
            },
            "plain": {"type": "array", "items": {"type": "integer"}},
        }}));
        #[track_caller]
        fn check(schema: &Structural, new: Value, old: Value, expected: bool) {
            assert_eq!(same(&new, &old, Some(schema)), expected, "{new} {old}");
        }
        let (a, b) = (json!({"k": "a", "v": 1}), json!({"k": "b", "v": 2}));
        check(&schema, json!({"keyed": [a, b]}), json!({"keyed": [b, a]}), true);
        check(&schema, json!({"keyed": [a]}), json!({"keyed": [a, b]}), false);
        check(&schema, json!({"keyed": [a, a]}), json!({"keyed": [a, b]}), true);
        check(&schema, json!({"keyed": [{"k": "a", "v": 3}]}), json!({"keyed": [a]}), false);
        check(&schema, json!({"plain": [1, 2]}), json!({"plain": [2, 1]}), false);
        check(&schema, json!({"plain": [1, 2]}), json!({"plain": [1, 2]}), true);
        check(&schema, json!({"other": 1}), json!({}), false);
    }
}
