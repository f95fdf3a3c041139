//! Equality and order of values, counting the work.

use std::cmp::Ordering;

use super::{List, Map, Value};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::types::{ListKind, Type};

/// Whether two values are equal: numbers by value, lists of a set or map kind whatever their order, values of
/// different types never.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    budget.work(1)?;
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::String(a), Value::String(b)) => {
            budget.work(a.len().min(b.len()))?;
            **a == **b
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.work(a.len().min(b.len()))?;
            a == b
        }
        (Value::List(a), Value::List(b)) => lists(a, b, budget)?,
        (Value::Map(a), Value::Map(b)) => maps(a, b, budget)?,
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b, budget)?,
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Type(a), Value::Type(b)) => match (a, b) {
            (Type::Opaque(a), Type::Opaque(b)) => a == b,
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            // Of lists and maps only that they are such is known.
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        },
        (Value::Opaque(a), Value::Opaque(b)) => a == b,
        _ => compare(a, b) == Some(Ordering::Equal),
    })
}

fn lists(a: &List<'_>, b: &List<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match a.kind() {
        ListKind::Atomic => {
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(&a, &b, budget)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Set => every_one_in(a, b, budget),
        ListKind::Map(keys) => {
            for element in a.iter() {
                match with_keys_of(&element, b, keys, budget)? {
                    Some(other) if equal(&element, &other, budget)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
    }
}

fn every_one_in(a: &List<'_>, b: &List<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    for element in a.iter() {
        if !contains(b, &element, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the list has an element that equals.
pub(crate) fn contains(list: &List<'_>, wanted: &Value<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    for element in list.iter() {
        if equal(&element, wanted, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The element of the list whose keys have the values that they have in `wanted`.
pub(crate) fn with_keys_of<'a>(
    wanted: &Value<'_>,
    list: &List<'a>,
    keys: &[String],
    budget: &mut Budget,
) -> Result<Option<Value<'a>>, EvalError> {
    let Value::Map(wanted) = wanted else { return Ok(None) };
    'elements: for element in list.iter() {
        let Value::Map(map) = &element else { continue };
        for key in keys {
            let same = match (wanted.field(key), map.field(key)) {
                (Some(a), Some(b)) => equal(&a, &b, budget)?,
                (a, b) => a.is_none() && b.is_none(),
            };
            if !same {
                continue 'elements;
            }
        }
        return Ok(Some(element));
    }
    Ok(None)
}

fn maps(a: &Map<'_>, b: &Map<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    budget.work(a.len())?;
    if let (Map::Object(whole, _), Map::Object(other, _)) = (a, b)
        && (whole.len() != a.len() || other.len() != b.len())
    {
        // What is hidden counts all the same: objects that differ are not equal.
        return Ok(whole == other);
    }
    for key in a.keys() {
        // Looked up by a key that borrows from the other map: maps of JSON only know names.
        let (Some(mine), Some(other)) = (a.get(&key), lookup(b, &key)) else { return Ok(false) };
        if !equal(&mine, &other, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lookup<'b>(map: &Map<'b>, key: &super::Key<'_>) -> Option<Value<'b>> {
    use super::Key;
    match key {
        Key::String(name) => map.field(name),
        Key::Bool(value) => map.get(&Key::Bool(*value)),
        Key::Int(value) => map.get(&Key::Int(*value)),
        Key::Uint(value) => map.get(&Key::Uint(*value)),
    }
}

/// The order of two values; None where they have none.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    use Value::{Bool, Bytes, Double, Duration, Int, Opaque, String, Timestamp, Uint};
    Some(match (a, b) {
        (Bool(a), Bool(b)) => a.cmp(b),
        (Int(a), Int(b)) => a.cmp(b),
        (Uint(a), Uint(b)) => a.cmp(b),
        (Int(a), Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Uint(a), Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Double(a), Double(b)) => return a.partial_cmp(b),
        (Double(a), Int(b)) => return with_integer(*a, i128::from(*b)),
        (Double(a), Uint(b)) => return with_integer(*a, i128::from(*b)),
        (Int(a), Double(b)) => return with_integer(*b, i128::from(*a)).map(Ordering::reverse),
        (Uint(a), Double(b)) => return with_integer(*b, i128::from(*a)).map(Ordering::reverse),
        (String(a), String(b)) => (**a).cmp(&**b),
        (Bytes(a), Bytes(b)) => a.cmp(b),
        (Duration(a), Duration(b)) => a.cmp(b),
        (Timestamp(a), Timestamp(b)) => a.cmp(b),
        (Opaque(super::Opaque::Quantity(a)), Opaque(super::Opaque::Quantity(b))) => a.cmp(b),
        _ => return None,
    })
}

/// Exact also where the integer has more digits than a double.
fn with_integer(double: f64, integer: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    let order = (double.floor() as i128).cmp(&integer);
    Some(if order.is_eq() && double.fract() != 0.0 { Ordering::Greater } else { order })
}
