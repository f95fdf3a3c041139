//! Reading objects for printing. Nothing here fails: what is missing or odd is shown as such.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::duration::since;

pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";

/// The object's name.
pub(super) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

/// How long ago the object was created.
pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    since_at(object, "/metadata/creationTimestamp", now).into()
}

/// How long ago the time at that place was.
pub(super) fn since_at(object: &Value, pointer: &str, now: Timestamp) -> String {
    since(object.pointer(pointer).and_then(Value::as_str), now)
}

/// The text at that place, or nothing.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The text at that place, or something else where it is missing or empty.
pub(super) fn text_or<'a>(object: &'a Value, pointer: &str, otherwise: &'a str) -> &'a str {
    Some(text(object, pointer)).filter(|text| !text.is_empty()).unwrap_or(otherwise)
}

/// The whole number at that place, or 0.
pub(super) fn int(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The boolean at that place, or false.
pub(super) fn flag(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// `True`/`False` as Go prints a pointer to a boolean.
pub(super) fn title_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// The array at that place, or an empty one.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The entries of the object at that place.
pub(super) fn map<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

/// How many entries the object at that place has.
pub(super) fn count(object: &Value, pointer: &str) -> usize {
    map(object, pointer).map_or(0, Map::len)
}

/// The same field of each item, joined by commas.
pub(super) fn join(items: &[Value], field: &str) -> String {
    items.iter().map(|item| text(item, field)).collect::<Vec<_>>().join(",")
}

/// Texts joined, or `<none>`.
pub(super) fn joined_or_none(texts: &[&str], separator: &str) -> String {
    if texts.is_empty() { NONE.to_owned() } else { texts.join(separator) }
}

/// The texts of a list of texts.
pub(super) fn texts<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(object, pointer).iter().filter_map(Value::as_str).collect()
}

/// Any scalar as text, without quotes.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The condition of that type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

pub(super) fn condition_is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

pub(super) fn is_deleted(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string)
}

/// Labels as a selector: `a=b,c=d`.
pub(super) fn labels(object: &Value, pointer: &str) -> String {
    let pairs: Vec<String> = map(object, pointer)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// A `metav1.LabelSelector` as it would be typed: `app=web,tier in (a,b),!old`.
pub(super) fn label_selector(object: &Value, pointer: &str) -> String {
    let Some(selector) = object.pointer(pointer) else { return NONE.to_owned() };
    let mut parts: Vec<(String, String)> = map(selector, "/matchLabels")
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", plain(value))))
        .collect();
    for requirement in list(selector, "/matchExpressions") {
        let key = text(requirement, "/key");
        let mut values = texts(requirement, "/values");
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(requirement, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => "<error>".to_owned(),
        };
        parts.push((key.to_owned(), part));
    }
    parts.sort();
    let parts: Vec<&str> = parts.iter().map(|(_, part)| part.as_str()).collect();
    joined_or_none(&parts, ",")
}

/// At most `max` texts, then how many there are more.
pub(super) fn truncated(texts: &[String], max: usize) -> String {
    let shown = texts.iter().take(max).map(String::as_str).collect::<Vec<_>>().join(",");
    match texts.len().checked_sub(max) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} + {more} more..."),
    }
}
