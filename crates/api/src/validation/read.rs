//! Reading JSON objects, and the checks that many fields share.
//!
//! Indexing a shared [`Value`] by name never panics: what is not there is `null`. Everything here treats a value of an
//! unexpected type as absent, since the schema has refused it before.

use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use serde_json::{Map, Value};

pub use super::ip::{cidr, ip, parse_ip};

pub const IMMUTABLE: &str = "field is immutable";

/// The string, or empty.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items, or none.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The members, or none.
pub fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Neither absent nor `null`.
pub fn given(value: &Value) -> bool {
    !value.is_null()
}

/// Absent, or an empty string, list or object.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

pub fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

/// Equal, where absent, `null`, empty and false are the same.
pub fn same(a: &Value, b: &Value) -> bool {
    a == b || (blank(a) && blank(b))
}

fn blank(value: &Value) -> bool {
    is_empty(value) || value == &Value::Bool(false)
}

pub fn required(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if is_empty(value) {
        errors.required(path, "");
    }
}

/// A problem as one of the [`super::names`] functions says it.
pub fn invalid_if(problem: Option<String>, value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(problem) = problem {
        errors.invalid(path, value.clone(), problem);
    }
}

/// One of these, given or defaulted; checked only where there is a value.
pub fn one_of(value: &Value, allowed: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    match value {
        Value::Null => {}
        Value::String(s) if allowed.contains(&s.as_str()) => {}
        other => errors.not_supported(path, other.clone(), allowed),
    }
}

pub fn not_negative(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if value.as_i64().is_some_and(|n| n < 0) {
        errors.invalid(path, value.clone(), "must be greater than or equal to 0");
    }
}

pub fn positive(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if value.as_i64().is_some_and(|n| n <= 0) {
        errors.invalid(path, value.clone(), "must be greater than 0");
    }
}

pub fn in_range(value: &Value, min: i64, max: i64, path: &Path<'_>, errors: &mut FieldErrors) {
    if value.as_i64().is_some_and(|n| n < min || n > max) {
        errors.invalid(path, value.clone(), format!("must be between {min} and {max}, inclusive"));
    }
}

pub fn port(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    in_range(value, 1, 65535, path, errors);
}

/// A port by number or by name.
pub fn port_or_name(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match value {
        Value::String(name) => {
            for problem in super::names::port_name(name) {
                errors.invalid(path, name.as_str(), problem);
            }
        }
        // One that is not given is zero, which is none either.
        Value::Null => port(&Value::from(0), path, errors),
        other => port(other, path, errors),
    }
}

/// An amount; a malformed or negative one is reported.
pub fn quantity(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) -> Option<Quantity> {
    match Quantity::from_value(value) {
        Ok(q) if q.is_negative() => {
            errors.invalid(path, value.clone(), "must be greater than or equal to 0");
            None
        }
        Ok(q) => Some(q),
        Err(e) => {
            errors.invalid(path, value.clone(), e.to_string());
            None
        }
    }
}

/// A number, or a percentage, not negative.
pub fn count_or_percent(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match value {
        Value::String(s) if percent(s).is_none() => errors.invalid(
            path,
            s.as_str(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        Value::Number(_) => not_negative(value, path, errors),
        _ => {}
    }
}

/// The number of a percentage.
pub fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(i64::MAX))
}

/// Zero, as a number or a percentage.
pub fn is_nothing(value: &Value) -> bool {
    match value {
        Value::String(s) => percent(s) == Some(0),
        other => other.as_i64().unwrap_or_default() == 0,
    }
}

pub fn at_most_all(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if value.as_str().and_then(percent).is_some_and(|n| n > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

pub fn unchanged(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !same(new, old) {
        errors.invalid(path, new.clone(), IMMUTABLE);
    }
}
