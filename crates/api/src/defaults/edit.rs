//! Small edits of JSON objects that defaulting is made of. None of them touches a value of an unexpected type.

use serde_json::{Map, Value};

pub type Object = Map<String, Value>;

/// Absent or `null`.
pub fn missing(object: &Object, key: &str) -> bool {
    object.get(key).is_none_or(Value::is_null)
}

/// Sets a field that is absent (a pointer or list in Go).
pub fn set(object: &mut Object, key: &str, value: impl Into<Value>) {
    if missing(object, key) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets a string that is absent or empty.
pub fn set_text(object: &mut Object, key: &str, value: &str) {
    if text(object, key).is_empty() && object.get(key).is_none_or(|v| v.is_null() || v.is_string()) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets a number that is absent or zero.
pub fn set_number(object: &mut Object, key: &str, value: i64) {
    if object.get(key).is_none_or(|v| v.is_null() || v.as_i64() == Some(0)) {
        object.insert(key.to_owned(), value.into());
    }
}

/// The string, or empty.
pub fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub fn is_true(object: &Object, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// The object under a key, if there is one.
pub fn get<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key).and_then(Value::as_object_mut)
}

/// The object under a key, made if it is absent.
pub fn ensure<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    set(object, key, Object::new());
    get(object, key)
}

/// Every object in the list under a key.
pub fn each(object: &mut Object, key: &str, mut edit: impl FnMut(&mut Object)) {
    if let Some(Value::Array(items)) = object.get_mut(key) {
        items.iter_mut().filter_map(Value::as_object_mut).for_each(&mut edit);
    }
}

/// Whether the member is an object or list with something in it.
pub fn has_items(object: &Object, key: &str) -> bool {
    match object.get(key) {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        _ => false,
    }
}
