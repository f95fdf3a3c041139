//! cel-go's extension of lists, version 3: `lists.range slice flatten sort distinct reverse`, and what `sortBy` ends in.

use std::cmp::Ordering;

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{List, Value, compare, equal};

pub(super) const LIBRARY: Library = &[
    (&["lists.range(int) -> list<int>"], range),
    (&["list<T> . slice(int, int) -> list<T>"], slice),
    (&["list<list<T>> . flatten() -> list<T>", "list<dyn> . flatten(int) -> list<dyn>"], flatten),
    (
        &[
            "list<int> . sort() -> list<int>",
            "list<uint> . sort() -> list<uint>",
            "list<double> . sort() -> list<double>",
            "list<bool> . sort() -> list<bool>",
            "list<duration> . sort() -> list<duration>",
            "list<timestamp> . sort() -> list<timestamp>",
            "list<string> . sort() -> list<string>",
            "list<bytes> . sort() -> list<bytes>",
        ],
        sort,
    ),
    (&["list<T> . distinct() -> list<T>"], distinct),
    (&["list<T> . reverse() -> list<T>"], reverse),
];

const ELEMENT: usize = size_of::<Value<'static>>();

fn range<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::Int(size)] = arguments else { return mismatch() };
    let count = usize::try_from(*size)
        .map_err(|_| EvalError::failed(format!("lists.range: size must be non-negative, got {size}")))?;
    budget.work(count.saturating_mul(ELEMENT))?;
    Ok(Value::list((0..*size).map(Value::Int).collect()))
}

fn slice<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = arguments else { return mismatch() };
    let refused = |why: String| Err(EvalError::failed(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return refused("negative indexes not supported".to_owned());
    };
    if from > to {
        return refused("start index must be less than or equal to end index".to_owned());
    }
    if to > list.len() {
        return refused(format!("list is length {}", list.len()));
    }
    budget.work((to - from).saturating_mul(ELEMENT))?;
    Ok(Value::list((from..to).filter_map(|index| list.get(index)).collect()))
}

fn flatten<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let (list, levels) = match arguments {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(levels)] => (list, *levels),
        _ => return mismatch(),
    };
    if levels < 0 {
        return Err(EvalError::failed("level must be non-negative"));
    }
    let mut flat = Vec::new();
    // Lists are no deeper than expressions and objects are.
    level(list, levels.min(64), &mut flat, budget)?;
    Ok(Value::list(flat))
}

fn level<'a>(
    list: &List<'a>,
    levels: i64,
    flat: &mut Vec<Value<'a>>,
    budget: &mut Budget,
) -> Result<(), EvalError> {
    budget.work(list.len().saturating_mul(ELEMENT))?;
    for element in list.iter() {
        match element {
            Value::List(inner) if levels > 0 => level(&inner, levels - 1, flat, budget)?,
            other => flat.push(other),
        }
    }
    Ok(())
}

fn sort<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    let elements: Vec<Value<'a>> = list.iter().collect();
    by_keys(elements.clone(), &elements, budget)
}

/// The elements in the order of their keys; those with equal keys stay as they are.
pub(crate) fn by_keys<'a>(
    elements: Vec<Value<'a>>,
    keys: &[Value<'a>],
    budget: &mut Budget,
) -> Evaluated<'a> {
    let rounds = keys.len().max(1).ilog2() as usize + 1;
    let sizes: usize = keys
        .iter()
        .map(|key| match key {
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 1,
        })
        .sum();
    budget.work(sizes.saturating_mul(rounds).saturating_add(keys.len().saturating_mul(ELEMENT)))?;
    if let Some(first) = keys.first() {
        if compare(first, first).is_none() && !matches!(first, Value::Double(_)) {
            return Err(EvalError::failed("list elements must be comparable"));
        }
        if keys.iter().any(|key| key.type_of() != first.type_of()) {
            return Err(EvalError::failed("list elements must have the same type"));
        }
    }
    let mut order: Vec<usize> = (0..elements.len()).collect();
    order.sort_by(|a, b| match (keys.get(*a), keys.get(*b)) {
        (Some(a), Some(b)) => compare(a, b).unwrap_or(Ordering::Equal),
        _ => Ordering::Equal,
    });
    Ok(Value::list(order.into_iter().filter_map(|index| elements.get(index).cloned()).collect()))
}

fn distinct<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    let mut kept: Vec<Value<'a>> = Vec::new();
    for element in list.iter() {
        let mut known = false;
        for before in &kept {
            budget.work(1)?;
            known |= equal(before, &element, budget)?;
        }
        if !known {
            budget.work(ELEMENT)?;
            kept.push(element);
        }
    }
    Ok(Value::list(kept))
}

fn reverse<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::List(list)] = arguments else { return mismatch() };
    budget.work(list.len().saturating_mul(ELEMENT))?;
    let mut elements: Vec<Value<'a>> = list.iter().collect();
    elements.reverse();
    Ok(Value::list(elements))
}
