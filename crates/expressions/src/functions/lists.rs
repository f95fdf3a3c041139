//! Kubernetes' list library: `isSorted sum min max indexOf lastIndexOf`.

use std::cmp::Ordering;

use super::arithmetic::add;
use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Duration, List, Value, compare, equal};

/// A method of lists whose elements have an order.
macro_rules! ordered {
    ($method:literal, same) => {
        &[
            concat!("list<int> . ", $method, "() -> int"),
            concat!("list<uint> . ", $method, "() -> uint"),
            concat!("list<double> . ", $method, "() -> double"),
            concat!("list<bool> . ", $method, "() -> bool"),
            concat!("list<duration> . ", $method, "() -> duration"),
            concat!("list<timestamp> . ", $method, "() -> timestamp"),
            concat!("list<string> . ", $method, "() -> string"),
            concat!("list<bytes> . ", $method, "() -> bytes"),
        ]
    };
    ($method:literal, bool) => {
        &[
            concat!("list<int> . ", $method, "() -> bool"),
            concat!("list<uint> . ", $method, "() -> bool"),
            concat!("list<double> . ", $method, "() -> bool"),
            concat!("list<bool> . ", $method, "() -> bool"),
            concat!("list<duration> . ", $method, "() -> bool"),
            concat!("list<timestamp> . ", $method, "() -> bool"),
            concat!("list<string> . ", $method, "() -> bool"),
            concat!("list<bytes> . ", $method, "() -> bool"),
        ]
    };
}

pub(super) const LIBRARY: Library = &[
    (ordered!("isSorted", bool), is_sorted),
    (ordered!("min", same), min),
    (ordered!("max", same), max),
    (
        &[
            "list<int> . sum() -> int",
            "list<uint> . sum() -> uint",
            "list<double> . sum() -> double",
            "list<duration> . sum() -> duration",
        ],
        sum,
    ),
    (&["list<T> . indexOf(T) -> int"], index_of),
    (&["list<T> . lastIndexOf(T) -> int"], last_index_of),
];

/// What a sum begins with: the checker lets lists of nothing known be ints.
pub(crate) fn zero_of(element: Option<&Value<'_>>) -> Value<'static> {
    match element {
        Some(Value::Uint(_)) => Value::Uint(0),
        Some(Value::Double(_)) => Value::Double(0.0),
        Some(Value::Duration(_)) => Value::Duration(Duration(0)),
        _ => Value::Int(0),
    }
}

fn is_sorted<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    let mut before: Option<Value<'a>> = None;
    for element in list.iter() {
        if let Some(before) = &before
            && order(before, &element, budget)?.is_gt()
        {
            return Ok(Value::Bool(false));
        }
        before = Some(element);
    }
    Ok(Value::Bool(true))
}

fn order(a: &Value<'_>, b: &Value<'_>, budget: &mut Budget) -> Result<Ordering, EvalError> {
    if let (Value::String(a), Value::String(b)) = (a, b) {
        budget.work(a.len().min(b.len()))?;
    }
    budget.work(1)?;
    compare(a, b).ok_or(EvalError::NoSuchOverload)
}

fn min<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    extreme(arguments, Ordering::Less, "min", budget)
}

fn max<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    extreme(arguments, Ordering::Greater, "max", budget)
}

fn extreme<'a>(arguments: &[Value<'a>], wanted: Ordering, name: &str, budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    let mut found: Option<Value<'a>> = None;
    for element in list.iter() {
        let better = match &found {
            Some(best) => order(&element, best, budget)? == wanted,
            None => true,
        };
        if better {
            found = Some(element);
        }
    }
    found.ok_or_else(|| EvalError::failed(format!("{name} called on empty list")))
}

fn sum<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    let mut sum: Value<'a> = zero_of(list.get(0).as_ref());
    for element in list.iter() {
        if !matches!(element, Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)) {
            return mismatch();
        }
        budget.work(1)?;
        sum = add(&[sum, element], budget)?;
    }
    Ok(sum)
}

fn index_of<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list), wanted] = arguments else { return mismatch() };
    found(list, wanted, &mut (0..list.len()), budget)
}

fn last_index_of<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list), wanted] = arguments else { return mismatch() };
    found(list, wanted, &mut (0..list.len()).rev(), budget)
}

fn found<'a>(
    list: &List<'a>,
    wanted: &Value<'a>,
    positions: &mut dyn Iterator<Item = usize>,
    budget: &mut Budget,
) -> Evaluated<'a> {
    for position in positions {
        if let Some(element) = list.get(position)
            && equal(&element, wanted, budget)?
        {
            return Ok(Value::Int(position as i64));
        }
    }
    Ok(Value::Int(-1))
}
