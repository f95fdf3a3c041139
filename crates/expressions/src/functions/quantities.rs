//! Kubernetes' quantity library.

use std::cmp::Ordering;

use api::quantity::Quantity;

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Opaque, Value};

pub(super) const LIBRARY: Library = &[
    (&["isQuantity(string) -> bool"], is_quantity),
    (&["quantity(string) -> Quantity"], quantity),
    (&["sign(Quantity) -> int", "Quantity . sign() -> int"], sign),
    (&["Quantity . isInteger() -> bool"], is_integer),
    (&["Quantity . asInteger() -> int"], as_integer),
    (&["Quantity . asApproximateFloat() -> double"], as_approximate_float),
    (&["Quantity . add(Quantity) -> Quantity", "Quantity . add(int) -> Quantity"], add),
    (&["Quantity . sub(Quantity) -> Quantity", "Quantity . sub(int) -> Quantity"], sub),
    (&["Quantity . isLessThan(Quantity) -> bool"], is_less_than),
    (&["Quantity . isGreaterThan(Quantity) -> bool"], is_greater_than),
    (&["Quantity . compareTo(Quantity) -> int"], compare_to),
];

fn is_quantity<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    Ok(Value::Bool(Quantity::parse(text).is_ok()))
}

fn quantity<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    Quantity::parse(text).map(Value::opaque).map_err(EvalError::failed)
}

fn one(arguments: &[Value<'_>]) -> Result<Quantity, EvalError> {
    let [Value::Opaque(Opaque::Quantity(quantity))] = arguments else { return mismatch() };
    Ok(*quantity)
}

fn two(arguments: &[Value<'_>]) -> Result<(Quantity, Quantity), EvalError> {
    match arguments {
        [Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))] => Ok((*a, *b)),
        [Value::Opaque(Opaque::Quantity(a)), Value::Int(b)] => Ok((*a, Quantity::units(*b))),
        _ => mismatch(),
    }
}

fn sign<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Int(number(one(arguments)?.cmp(&Quantity::ZERO))))
}

fn number(order: Ordering) -> i64 {
    order as i64
}

fn whole(quantity: Quantity) -> Option<i64> {
    let value = quantity.value();
    (Quantity::units(value) == quantity).then_some(value)
}

fn is_integer<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Bool(whole(one(arguments)?).is_some()))
}

fn as_integer<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let value = whole(one(arguments)?);
    value.map(Value::Int).ok_or_else(|| EvalError::failed("cannot convert value to integer"))
}

fn as_approximate_float<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Double(one(arguments)?.as_f64()))
}

fn add<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let (a, b) = two(arguments)?;
    Ok(Value::opaque(a.plus(b)))
}

fn sub<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let (a, b) = two(arguments)?;
    Ok(Value::opaque(a.minus(b)))
}

fn is_less_than<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let (a, b) = two(arguments)?;
    Ok(Value::Bool(a < b))
}

fn is_greater_than<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let (a, b) = two(arguments)?;
    Ok(Value::Bool(a > b))
}

fn compare_to<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let (a, b) = two(arguments)?;
    Ok(Value::Int(number(a.cmp(&b))))
}
