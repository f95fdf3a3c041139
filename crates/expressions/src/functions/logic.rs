//! Equality, order, negation, membership, indexing, sizes.

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Key, List, Map, Value, compare, contains, equal};

pub(super) const LIBRARY: Library = &[
    (&["_==_(T, T) -> bool"], is_equal),
    (&["_!=_(T, T) -> bool"], is_not_equal),
    (&["!_(bool) -> bool"], not),
    (LESS, less),
    (LESS_OR_EQUAL, less_or_equal),
    (GREATER, greater),
    (GREATER_OR_EQUAL, greater_or_equal),
    (&["@in(T, list<T>) -> bool"], in_list),
    (&["@in(K, map<K, V>) -> bool"], in_map),
    (&["_[_](list<T>, int) -> T"], at_position),
    (&["_[_](map<K, V>, K) -> V"], at_key),
    (&["_[?_](list<T>, int) -> optional<T>"], maybe_at_position),
    (&["_[?_](map<K, V>, K) -> optional<V>"], maybe_at_key),
    (
        &["_[_](optional<list<T>>, int) -> optional<T>", "_[?_](optional<list<T>>, int) -> optional<T>"],
        within,
    ),
    (
        &["_[_](optional<map<K, V>>, K) -> optional<V>", "_[?_](optional<map<K, V>>, K) -> optional<V>"],
        within,
    ),
    (&["size(string) -> int", "size(bytes) -> int", "size(list<T>) -> int", "size(map<K, V>) -> int"], size),
    (
        &[
            "string . size() -> int",
            "bytes . size() -> int",
            "list<T> . size() -> int",
            "map<K, V> . size() -> int",
        ],
        size,
    ),
];

/// The types that have an order; numbers are compared with one another.
macro_rules! ordered {
    ($operator:literal) => {
        &[
            concat!($operator, "(bool, bool) -> bool"),
            concat!($operator, "(int, int) -> bool"),
            concat!($operator, "(int, uint) -> bool"),
            concat!($operator, "(int, double) -> bool"),
            concat!($operator, "(uint, uint) -> bool"),
            concat!($operator, "(uint, int) -> bool"),
            concat!($operator, "(uint, double) -> bool"),
            concat!($operator, "(double, double) -> bool"),
            concat!($operator, "(double, int) -> bool"),
            concat!($operator, "(double, uint) -> bool"),
            concat!($operator, "(string, string) -> bool"),
            concat!($operator, "(bytes, bytes) -> bool"),
            concat!($operator, "(duration, duration) -> bool"),
            concat!($operator, "(timestamp, timestamp) -> bool"),
        ]
    };
}

const LESS: &[&str] = ordered!("_<_");
const LESS_OR_EQUAL: &[&str] = ordered!("_<=_");
const GREATER: &[&str] = ordered!("_>_");
const GREATER_OR_EQUAL: &[&str] = ordered!("_>=_");

fn is_equal<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [a, b] = arguments else { return mismatch() };
    equal(a, b, budget).map(Value::Bool)
}

fn is_not_equal<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [a, b] = arguments else { return mismatch() };
    equal(a, b, budget).map(|same| Value::Bool(!same))
}

fn not<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Bool(value)] = arguments else { return mismatch() };
    Ok(Value::Bool(!value))
}

/// Comparisons with NaN are false.
fn less<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [a, b] = arguments else { return mismatch() };
    Ok(Value::Bool(compare(a, b).is_some_and(|order| order.is_lt())))
}

fn less_or_equal<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [a, b] = arguments else { return mismatch() };
    Ok(Value::Bool(compare(a, b).is_some_and(|order| order.is_le())))
}

fn greater<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [a, b] = arguments else { return mismatch() };
    Ok(Value::Bool(compare(a, b).is_some_and(|order| order.is_gt())))
}

fn greater_or_equal<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [a, b] = arguments else { return mismatch() };
    Ok(Value::Bool(compare(a, b).is_some_and(|order| order.is_ge())))
}

fn in_list<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [value, Value::List(list)] = arguments else { return mismatch() };
    contains(list, value, budget).map(Value::Bool)
}

fn in_map<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [key, Value::Map(map)] = arguments else { return mismatch() };
    Ok(Value::Bool(Key::of(key).is_some_and(|key| map.get(&key).is_some())))
}

fn at_position<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list), position] = arguments else { return mismatch() };
    element(list, position).ok_or_else(|| {
        let position = match position {
            Value::Int(position) => i128::from(*position),
            Value::Uint(position) => i128::from(*position),
            _ => -1,
        };
        EvalError::failed(format!("index out of bounds: {position}"))
    })
}

fn element<'a>(list: &List<'a>, position: &Value<'_>) -> Option<Value<'a>> {
    let position = match position {
        Value::Int(position) => usize::try_from(*position).ok()?,
        Value::Uint(position) => usize::try_from(*position).ok()?,
        // Of a type that is known at evaluation only.
        Value::Double(position) if position.fract() == 0.0 && *position >= 0.0 => *position as usize,
        _ => return None,
    };
    list.get(position)
}

fn at_key<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Map(map), key] = arguments else { return mismatch() };
    member(map, key).ok_or_else(|| EvalError::NoSuchKey(told(key)))
}

fn member<'a>(map: &Map<'a>, key: &Value<'a>) -> Option<Value<'a>> {
    map.get(&Key::of(key)?)
}

fn told(key: &Value<'_>) -> String {
    match key {
        Value::String(name) => name.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => other.type_of().to_string(),
    }
}

fn maybe_at_position<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list), position] = arguments else { return mismatch() };
    Ok(Value::Optional(element(list, position).map(Into::into)))
}

fn maybe_at_key<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Map(map), key] = arguments else { return mismatch() };
    Ok(Value::Optional(member(map, key).map(Into::into)))
}

/// Indexing what an optional holds gives an optional again.
fn within<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Optional(optional), key] = arguments else { return mismatch() };
    Ok(Value::Optional(match optional.as_deref() {
        Some(Value::List(list)) => element(list, key).map(Into::into),
        Some(Value::Map(map)) => member(map, key).map(Into::into),
        Some(_) => return mismatch(),
        None => None,
    }))
}

fn size<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [value] = arguments else { return mismatch() };
    if let Value::String(text) = value {
        budget.work(text.len() / 16)?;
    }
    i64::try_from(value.size()).map(Value::Int).map_err(EvalError::failed)
}
