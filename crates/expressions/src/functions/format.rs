//! `'..%s..'.format([..])`: the verbs `%s %d %f %e %b %o %x %X` with a precision.

use super::conversions::{shortest, told};
use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Key, Value};

pub(super) const LIBRARY: Library = &[(&["string . format(list<dyn>) -> string"], format)];

const MAX_PRECISION: usize = 100;
/// Lists and maps are written out this deep.
const MAX_DEPTH: u32 = 64;

fn format<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(template), Value::List(list)] = arguments else { return mismatch() };
    let mut values = list.iter().enumerate();
    let mut out = String::new();
    let mut rest: &str = template;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let mut precision = None;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let digits: usize = after[..end].parse().unwrap_or(usize::MAX);
            if digits > MAX_PRECISION {
                return Err(EvalError::failed("could not parse formatting clause: precision too large"));
            }
            precision = Some(digits);
            rest = &after[end..];
        }
        let Some(verb) = rest.chars().next() else {
            return Err(EvalError::failed("could not parse formatting clause: unexpected end of string"));
        };
        rest = &rest[verb.len_utf8()..];
        let Some((number, value)) = values.next() else {
            return Err(EvalError::failed(format!("index {} out of range", list.len())));
        };
        let before = out.len();
        one(verb, precision, &value, &mut out, budget).map_err(|error| match error {
            EvalError::NoSuchOverload => {
                let message = format!(
                    "error during formatting: argument {number} of type {} does not fit the clause '%{verb}'",
                    value.type_of()
                );
                EvalError::failed(message)
            }
            error => error,
        })?;
        budget.work(out.len() - before)?;
    }
    out.push_str(rest);
    budget.work(out.len())?;
    Ok(Value::string(out))
}

fn one(
    verb: char,
    precision: Option<usize>,
    value: &Value<'_>,
    out: &mut String,
    budget: &mut Budget,
) -> Result<(), EvalError> {
    let digits = precision.unwrap_or(6);
    match (verb, value) {
        ('s', value) => return written(value, out, budget, MAX_DEPTH),
        ('d', Value::Int(_) | Value::Uint(_)) => out.push_str(&told(value).unwrap_or_default()),
        ('d' | 'f' | 'e', Value::Double(value)) if !value.is_finite() => out.push_str(not_finite(*value)),
        ('f', _) => out.push_str(&format!("{:.digits$}", double(value)?)),
        ('e', _) => {
            let scientific = format!("{:.digits$e}", double(value)?);
            let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
            out.push_str(&format!("{mantissa}e{sign}{exponent:0>2}"));
        }
        ('b', Value::Bool(value)) => out.push(if *value { '1' } else { '0' }),
        ('x' | 'X', Value::String(text)) => hex(text.as_bytes(), verb, out, budget)?,
        ('x' | 'X', Value::Bytes(bytes)) => hex(bytes, verb, out, budget)?,
        ('b' | 'o' | 'x' | 'X', _) => {
            let (negative, magnitude) = match value {
                Value::Int(value) => (*value < 0, value.unsigned_abs()),
                Value::Uint(value) => (false, *value),
                _ => return mismatch(),
            };
            if negative {
                out.push('-');
            }
            out.push_str(&match verb {
                'b' => format!("{magnitude:b}"),
                'o' => format!("{magnitude:o}"),
                'x' => format!("{magnitude:x}"),
                _ => format!("{magnitude:X}"),
            });
        }
        ('d', _) => return mismatch(),
        _ => {
            let message =
                format!("could not parse formatting clause: unrecognized formatting clause \"{verb}\"");
            return Err(EvalError::failed(message));
        }
    }
    Ok(())
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn double(value: &Value<'_>) -> Result<f64, EvalError> {
    match value {
        Value::Double(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Uint(value) => Ok(*value as f64),
        _ => mismatch(),
    }
}

fn hex(bytes: &[u8], verb: char, out: &mut String, budget: &mut Budget) -> Result<(), EvalError> {
    budget.work(bytes.len().saturating_mul(2))?;
    for byte in bytes {
        out.push_str(&if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") });
    }
    Ok(())
}

/// `%s`: lists and maps with all that is in them.
fn written(value: &Value<'_>, out: &mut String, budget: &mut Budget, depth: u32) -> Result<(), EvalError> {
    budget.work(1)?;
    if depth == 0 {
        return Err(EvalError::failed("error during formatting: the value is nested too deeply"));
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Double(value) if value.is_finite() => out.push_str(&shortest(*value)),
        Value::Double(value) => out.push_str(not_finite(*value)),
        Value::Type(of) => out.push_str(&of.to_string()),
        Value::List(list) => {
            out.push('[');
            for (number, element) in list.iter().enumerate() {
                if number > 0 {
                    out.push_str(", ");
                }
                written(&element, out, budget, depth - 1)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut keys = map.keys();
            budget.work(keys.len())?;
            keys.sort();
            out.push('{');
            for (number, key) in keys.iter().enumerate() {
                if number > 0 {
                    out.push_str(", ");
                }
                written(&key.value(), out, budget, depth - 1)?;
                out.push_str(": ");
                let value = match key {
                    Key::String(name) => map.field(name),
                    key => map.get(key),
                };
                written(&value.unwrap_or(Value::Null), out, budget, depth - 1)?;
            }
            out.push('}');
        }
        value => {
            let told = told(value).ok_or(EvalError::NoSuchOverload)?;
            budget.work(told.len())?;
            out.push_str(&told);
        }
    }
    Ok(())
}
