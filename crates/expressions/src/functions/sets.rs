//! Lists taken as sets: `sets.contains`, `sets.intersects`, `sets.equivalent`.

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{List, Value, contains};

pub(super) const LIBRARY: Library = &[
    (&["sets.contains(list<T>, list<T>) -> bool"], contains_all),
    (&["sets.intersects(list<T>, list<T>) -> bool"], intersects),
    (&["sets.equivalent(list<T>, list<T>) -> bool"], equivalent),
];

fn all_in(parts: &List<'_>, whole: &List<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    for part in parts.iter() {
        if !contains(whole, &part, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains_all<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(whole), Value::List(parts)] = arguments else { return mismatch() };
    all_in(parts, whole, budget).map(Value::Bool)
}

fn intersects<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(a), Value::List(b)] = arguments else { return mismatch() };
    for element in a.iter() {
        if contains(b, &element, budget)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn equivalent<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(a), Value::List(b)] = arguments else { return mismatch() };
    Ok(Value::Bool(all_in(a, b, budget)? && all_in(b, a, budget)?))
}
