//! Optional values.

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::Value;

pub(super) const LIBRARY: Library = &[
    (&["optional.of(T) -> optional<T>"], of),
    (&["optional.ofNonZeroValue(T) -> optional<T>"], of_non_zero),
    (&["optional.none() -> optional<T>"], none),
    (&["optional<T> . hasValue() -> bool"], has_value),
    (&["optional<T> . value() -> T"], value),
    (&["optional<T> . or(optional<T>) -> optional<T>"], or),
    (&["optional<T> . orValue(T) -> T"], or_value),
    (
        &["optional.unwrap(list<optional<T>>) -> list<T>", "list<optional<T>> . unwrapOpt() -> list<T>"],
        unwrap,
    ),
    (&["list<T> . first() -> optional<T>"], first),
    (&["list<T> . last() -> optional<T>"], last),
];

fn of<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [value] = arguments else { return mismatch() };
    Ok(Value::some(value.clone()))
}

fn of_non_zero<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [value] = arguments else { return mismatch() };
    Ok(if is_zero(value) { Value::Optional(None) } else { Value::some(value.clone()) })
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Optional(None) => true,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Duration(duration) => duration.0 == 0,
        _ => false,
    }
}

fn none<'a>(_: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Optional(None))
}

fn has_value<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Optional(optional)] = arguments else { return mismatch() };
    Ok(Value::Bool(optional.is_some()))
}

fn value<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Optional(optional)] = arguments else { return mismatch() };
    optional.as_deref().cloned().ok_or_else(|| EvalError::failed("optional.none() dereference"))
}

fn or<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [first @ Value::Optional(optional), other] = arguments else { return mismatch() };
    Ok(if optional.is_some() { first.clone() } else { other.clone() })
}

fn or_value<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Optional(optional), other] = arguments else { return mismatch() };
    Ok(optional.as_deref().unwrap_or(other).clone())
}

fn unwrap<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    let mut values = Vec::new();
    for element in list.iter() {
        budget.work(64)?;
        match element {
            Value::Optional(Some(value)) => values.push((*value).clone()),
            Value::Optional(None) => {}
            _ => return mismatch(),
        }
    }
    Ok(Value::list(values))
}

fn first<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    Ok(Value::Optional(list.get(0).map(Into::into)))
}

fn last<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    Ok(Value::Optional(list.len().checked_sub(1).and_then(|at| list.get(at)).map(Into::into)))
}
