//! An applied configuration merged into the live object.

use super::typed::{View, associative, child, element, view};
use crate::quantity::Quantity;
use crate::schema::{List, Schema, Shape};
use serde_json::Value;
use std::collections::HashMap;

/// What the configuration says, over what is there.
pub fn merge(live: &Value, config: &Value, schema: Option<&Schema>) -> Value {
    match (view(live, schema), view(config, schema)) {
        (View::Map(old), View::Map(new)) => {
            let mut out = old.clone();
            for (key, value) in new {
                let merged = match old.get(key) {
                    Some(old) => merge(old, value, child(schema, key)),
                    None => value.clone(),
                };
                out.insert(key.clone(), merged);
            }
            Value::Object(out)
        }
        (View::List(old), View::List(new)) => match associative(schema) {
            Some(list) => Value::Array(merge_lists(old, new, list)),
            None => config.clone(),
        },
        // null is a container without members, which has nothing to say about those of others.
        (View::Map(old), View::Leaf) if config.is_null() && !old.is_empty() => live.clone(),
        (View::List(old), View::Leaf) if config.is_null() && !old.is_empty() => live.clone(),
        _ if same_quantity(live, config, schema) => live.clone(),
        _ => config.clone(),
    }
}

/// The same amount, perhaps written otherwise than the server does (`0.5` for `500m`): no change to anybody.
fn same_quantity(live: &Value, config: &Value, schema: Option<&Schema>) -> bool {
    schema.is_some_and(|s| s.shape == Shape::Quantity)
        && matches!((Quantity::from_value(live), Quantity::from_value(config)), (Ok(a), Ok(b)) if a == b)
}

/// Items of the configuration keep its order. Items that only the live list has keep their place between those that
/// both have.
fn merge_lists(live: &[Value], config: &[Value], list: &List) -> Vec<Value> {
    let elements = |items: &[Value]| {
        items.iter().map(|item| element(list, item).unwrap_or_default()).collect::<Vec<_>>()
    };
    let (live_keys, config_keys) = (elements(live), elements(config));
    let mut live_at: HashMap<&str, &Value> = HashMap::new();
    for (key, item) in live_keys.iter().zip(live) {
        live_at.entry(key).or_insert(item);
    }
    // Position in the configuration; a live item with a smaller one than the next to come has been merged already.
    let config_at: HashMap<&str, usize> =
        config_keys.iter().enumerate().map(|(i, k)| (k.as_str(), i)).collect();
    let mut shared = config_keys.iter().filter(|k| live_at.contains_key(k.as_str())).peekable();
    let mut rest = live_keys.iter().zip(live).peekable();
    let mut out = Vec::with_capacity(live.len() + config.len());

    for (key, item) in config_keys.iter().zip(config) {
        while let Some((live_key, live_item)) = rest.peek() {
            if !config_at.contains_key(live_key.as_str()) {
                out.push((*live_item).clone());
            } else if shared.peek() == Some(live_key) {
                break;
            }
            rest.next();
        }
        match live_at.get(key.as_str()) {
            Some(old) => {
                out.push(merge(old, item, Some(&list.items)));
                rest.next_if(|(live_key, _)| *live_key == key);
                shared.next_if(|s| *s == key);
            }
            None => out.push(item.clone()),
        }
    }
    out.extend(rest.filter(|(key, _)| !config_at.contains_key(key.as_str())).map(|(_, item)| item.clone()));
    out
}
