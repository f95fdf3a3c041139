//! `+ - * / %` and negation, with cel-spec's errors on overflow, and joining of strings, bytes and lists.

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::types::ListKind;
use crate::value::{Duration, List, Value, contains, in_range, with_keys_of};

pub(super) const LIBRARY: Library = &[
    (
        &[
            "_+_(int, int) -> int",
            "_+_(uint, uint) -> uint",
            "_+_(double, double) -> double",
            "_+_(string, string) -> string",
            "_+_(bytes, bytes) -> bytes",
            "_+_(list<T>, list<T>) -> list<T>",
            "_+_(duration, duration) -> duration",
            "_+_(timestamp, duration) -> timestamp",
            "_+_(duration, timestamp) -> timestamp",
        ],
        add,
    ),
    (
        &[
            "_-_(int, int) -> int",
            "_-_(uint, uint) -> uint",
            "_-_(double, double) -> double",
            "_-_(duration, duration) -> duration",
            "_-_(timestamp, duration) -> timestamp",
            "_-_(timestamp, timestamp) -> duration",
        ],
        subtract,
    ),
    (&["_*_(int, int) -> int", "_*_(uint, uint) -> uint", "_*_(double, double) -> double"], multiply),
    (&["_/_(int, int) -> int", "_/_(uint, uint) -> uint", "_/_(double, double) -> double"], divide),
    (&["_%_(int, int) -> int", "_%_(uint, uint) -> uint"], modulus),
    (&["-_(int) -> int", "-_(double) -> double"], negate),
];

fn int<'a>(result: Option<i64>) -> Evaluated<'a> {
    result.map(Value::Int).ok_or_else(|| EvalError::failed("integer overflow"))
}

fn uint<'a>(result: Option<u64>) -> Evaluated<'a> {
    result.map(Value::Uint).ok_or_else(|| EvalError::failed("unsigned integer overflow"))
}

fn duration<'a>(result: Option<i64>) -> Evaluated<'a> {
    result.map(|nanoseconds| Value::Duration(Duration(nanoseconds))).ok_or_else(out_of_range)
}

fn out_of_range() -> EvalError {
    EvalError::failed("timestamp or duration out of range")
}

pub(super) fn add<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [a, b] = arguments else { return mismatch() };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => {
            budget.work(a.len() + b.len())?;
            Ok(Value::string([&**a, &**b].concat()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.work(a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        (Value::List(a), Value::List(b)) => joined(a, b, budget),
        (Value::Duration(a), Value::Duration(b)) => duration(a.0.checked_add(b.0)),
        (Value::Timestamp(at), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(at)) => {
            moved(*at, by.0)
        }
        _ => mismatch(),
    }
}

fn moved<'a>(at: jiff::Timestamp, nanoseconds: i64) -> Evaluated<'a> {
    let moved = at.checked_add(jiff::SignedDuration::from_nanos(nanoseconds)).ok().and_then(in_range);
    moved.map(Value::Timestamp).ok_or_else(out_of_range)
}

/// `a + b`. Lists of a set or map kind are merged: an element of `b` that is in `a` already takes its place.
fn joined<'a>(a: &List<'a>, b: &List<'a>, budget: &mut Budget) -> Evaluated<'a> {
    const ELEMENT: usize = size_of::<Value<'static>>();
    budget.work((a.len() + b.len()).saturating_mul(ELEMENT))?;
    let Some(of) = a.list_type().or(b.list_type()).filter(|of| of.kind != ListKind::Atomic).cloned() else {
        return Ok(Value::list(a.iter().chain(b.iter()).collect()));
    };
    let mut elements: Vec<Value<'a>> = a.iter().collect();
    match &of.kind {
        ListKind::Map(keys) => {
            for (position, element) in a.iter().enumerate() {
                if let Some(newer) = with_keys_of(&element, b, keys, budget)? {
                    elements[position] = newer;
                }
            }
            for element in b.iter() {
                if with_keys_of(&element, a, keys, budget)?.is_none() {
                    elements.push(element);
                }
            }
        }
        _ => {
            for element in b.iter() {
                if !contains(a, &element, budget)? {
                    elements.push(element);
                }
            }
        }
    }
    Ok(Value::List(List::Kept(elements.into(), of)))
}

fn subtract<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [a, b] = arguments else { return mismatch() };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => duration(a.0.checked_sub(b.0)),
        (Value::Timestamp(at), Value::Duration(by)) => {
            moved(*at, by.0.checked_neg().ok_or_else(out_of_range)?)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            duration(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok())
        }
        _ => mismatch(),
    }
}

fn multiply<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => mismatch(),
    }
}

fn divide<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvalError::failed("division by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => mismatch(),
    }
}

fn modulus<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvalError::failed("modulus by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
        _ => mismatch(),
    }
}

fn negate<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Int(value)] => int(value.checked_neg()),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        _ => mismatch(),
    }
}
