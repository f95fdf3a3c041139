//! What calls cost when they are evaluated: Kubernetes' figures, on which users' limits depend.

use crate::value::{Opaque, Value};

pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// Going from one element of a comprehension to the next.
pub(crate) const STEP: u64 = 3;
/// An authorization check: two or three are all that an expression can afford.
pub(crate) const CHECK: u64 = 350_000;

/// A traversal of so many characters: a tenth each.
pub(crate) fn traversal(size: u64) -> u64 {
    size.div_ceil(10)
}

/// Sorting so many elements, or telling them apart, into a new list.
pub(crate) fn sorting(count: u64) -> u64 {
    count.saturating_mul(count).saturating_mul(2).saturating_add(LIST + 1)
}

/// A pattern of so many characters counts as a state machine of a quarter as many.
pub(crate) fn pattern(size: u64) -> u64 {
    size.div_ceil(4)
}

pub(super) fn of_call(function: &str, arguments: &[Value<'_>], result: &Value<'_>) -> u64 {
    let size = |index: usize| arguments.get(index).map_or(0, Value::size);
    let is_text = |index: usize| matches!(arguments.get(index), Some(Value::String(_) | Value::Bytes(_)));
    let is_list = |index: usize| matches!(arguments.get(index), Some(Value::List(_)));
    match function {
        "check" => CHECK,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            arguments.first().map_or(1, elements)
        }
        "url" | "isURL" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR"
        | "quantity" | "isQuantity" | "semver" | "isSemver" | "bytes" => traversal(size(0)),
        "ip" if matches!(arguments.first(), Some(Value::Opaque(_))) => 1,
        "ip" => traversal(size(0)),
        "ip.isCanonical" | "replace" | "split" | "strings.quote" | "jsonpatch.escapeKey" => {
            traversal(2 * size(0))
        }
        "join" => traversal(2 * result.size()),
        "format" => traversal(size(0)),
        "matches" | "find" | "findAll" => traversal(1 + size(0)).saturating_mul(pattern(size(1)).max(1)),
        "validate" => match arguments.first() {
            Some(Value::Opaque(Opaque::Format(format))) => {
                traversal(size(1)).saturating_mul(pattern(format.pattern)).max(1)
            }
            _ => 1,
        },
        "containsIP" | "containsCIDR" => {
            let own =
                traversal(2 * size(0)) + if function == "containsCIDR" { traversal(size(0)) + 1 } else { 0 };
            own + if is_text(1) { traversal(size(1)) } else { 0 }
        }
        "sort" | "distinct" => sorting(size(0)),
        "reverse" => size(0) + LIST + 1,
        "flatten" => size(0).saturating_mul(levels(arguments.get(1))) + LIST + 1,
        "slice" | "lists.range" => result.size() + LIST + 1,
        "startsWith" | "endsWith" => traversal(size(1)),
        "contains" => traversal(size(0)).saturating_mul(traversal(size(1)).max(1)),
        "@in" if is_list(1) => size(1),
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2),
        "_==_" | "_!=_" => traversal(size(0).min(size(1))).max(1),
        "_<_" | "_<=_" | "_>_" | "_>=_" if is_text(0) => traversal(size(0).min(size(1))).max(1),
        "_+_" if is_text(0) => traversal(size(0) + size(1)).max(1),
        "string" if matches!(arguments.first(), Some(Value::Bytes(_))) => traversal(size(0)).max(1),
        _ => 1,
    }
}

/// One for each element, and more for those that are texts.
fn elements(value: &Value<'_>) -> u64 {
    match value {
        Value::List(list) => list
            .iter()
            .map(|element| match element {
                Value::String(_) | Value::Bytes(_) => traversal(element.size()).max(1),
                _ => 1,
            })
            .sum(),
        text => traversal(text.size()),
    }
}

/// How deep a list is flattened.
fn levels(argument: Option<&Value<'_>>) -> u64 {
    match argument {
        Some(Value::Int(levels)) => u64::try_from(*levels).unwrap_or(0),
        _ => 1,
    }
}
