//! `'..%s..'.format([..])`: the verbs `%s %d %f %e %b %o %x %X` with a precision.

use super::conversions::told;
use super::template::{self, Clause, Verb};
use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Key, Value};

pub(super) const LIBRARY: Library = &[(&["string . format(list<dyn>) -> string"], format)];

/// Lists and maps are written out this deep.
const MAX_DEPTH: u32 = 64;

fn format<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text), Value::List(list)] = arguments else { return mismatch() };
    let mut values = list.iter();
    let mut out = String::new();
    for clause in template::clauses(text) {
        let before = out.len();
        match clause.map_err(EvalError::failed)? {
            Clause::Text(text) => out.push_str(text),
            Clause::Verb(verb) => {
                let Some(value) = values.next() else {
                    return Err(EvalError::failed(format!("index {} out of range", list.len())));
                };
                if let Some(wanted) = verb.refuses(&value.type_of()) {
                    return Err(misfit(wanted, &value));
                }
                one(verb, &value, &mut out, budget)?;
            }
        }
        budget.work(out.len() - before)?;
    }
    budget.work(out.len())?;
    Ok(Value::string(out))
}

fn misfit(wanted: &str, value: &Value<'_>) -> EvalError {
    let called = template::called(&value.type_of());
    EvalError::failed(format!("error during formatting: {wanted}, was given {called}"))
}

fn one(verb: Verb, value: &Value<'_>, out: &mut String, budget: &mut Budget) -> Result<(), EvalError> {
    match (verb.name, value) {
        ('s', value) => return written(value, out, budget),
        ('d', value) => out.push_str(&told(value).unwrap_or_default()),
        ('f', Value::Double(value)) if value.is_finite() => {
            out.push_str(&grouped(&format!("{value:.*}", verb.precision.unwrap_or(6))));
        }
        ('f', Value::Double(value)) => out.push_str(not_finite(*value)),
        ('e', Value::Double(value)) if value.is_finite() => {
            // As the number formatter of upstream's (English) locale writes it: with six digits, whatever is asked.
            let scientific = format!("{value:.6e}");
            let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let (sign, digits) = exponent.strip_prefix('-').map_or(("", exponent), |digits| ("⁻", digits));
            let raised: String = format!("{digits:0>2}").chars().map(superscript).collect();
            out.push_str(&format!("{mantissa}×10{sign}{raised}"));
        }
        ('e', Value::Double(value)) => out.push_str(&format!("     {}", not_finite(*value))),
        ('b', Value::Bool(value)) => out.push(if *value { '1' } else { '0' }),
        ('x' | 'X', Value::String(text)) => hex(text.as_bytes(), verb.name, out, budget)?,
        ('x' | 'X', Value::Bytes(bytes)) => hex(bytes, verb.name, out, budget)?,
        (name, value) => {
            let (negative, magnitude) = match value {
                Value::Int(value) => (*value < 0, value.unsigned_abs()),
                Value::Uint(value) => (false, *value),
                _ => return mismatch(),
            };
            if negative {
                out.push('-');
            }
            out.push_str(&match name {
                'b' => format!("{magnitude:b}"),
                'o' => format!("{magnitude:o}"),
                'x' => format!("{magnitude:x}"),
                _ => format!("{magnitude:X}"),
            });
        }
    }
    Ok(())
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "∞"
    } else {
        "-∞"
    }
}

fn superscript(digit: char) -> char {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    digit.to_digit(10).and_then(|digit| RAISED.get(digit as usize)).copied().unwrap_or(digit)
}

/// With a comma between thousands.
fn grouped(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut out = String::with_capacity(number.len() + whole / 3);
    for (at, c) in number.char_indices() {
        let before = at.checked_sub(1).and_then(|before| number.as_bytes().get(before));
        if at < whole && (whole - at).is_multiple_of(3) && before.is_some_and(u8::is_ascii_digit) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn hex(bytes: &[u8], verb: char, out: &mut String, budget: &mut Budget) -> Result<(), EvalError> {
    budget.work(bytes.len().saturating_mul(2))?;
    for byte in bytes {
        out.push_str(&if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") });
    }
    Ok(())
}

/// `%s`: texts as they are, lists and maps with all that is in them as literals.
fn written(value: &Value<'_>, out: &mut String, budget: &mut Budget) -> Result<(), EvalError> {
    match value {
        Value::Null | Value::Type(_) | Value::List(_) | Value::Map(_) => {
            literal(value, out, budget, MAX_DEPTH)
        }
        value => {
            let told = told(value).ok_or_else(|| {
                EvalError::failed(
                    "error during formatting: could not convert argument \
                     \"invalid UTF-8 in bytes, cannot convert to string\" to string",
                )
            })?;
            budget.work(told.len())?;
            out.push_str(&told);
            Ok(())
        }
    }
}

fn literal(value: &Value<'_>, out: &mut String, budget: &mut Budget, depth: u32) -> Result<(), EvalError> {
    budget.work(1)?;
    if depth == 0 {
        return Err(EvalError::failed("error during formatting: the value is nested too deeply"));
    }
    let before = out.len();
    match value {
        Value::Null => out.push_str("null"),
        Value::String(text) => out.push_str(&quoted(text)),
        Value::Double(value) if value.is_finite() => out.push_str(&format!("{value:.6}")),
        Value::Double(_) => out.push_str(&format!("\"{}\"", told(value).unwrap_or_default())),
        Value::Bytes(bytes) => out.push_str(&format!("b{}", quoted(&String::from_utf8_lossy(bytes)))),
        Value::Duration(_) => out.push_str(&format!("duration(\"{}\")", told(value).unwrap_or_default())),
        Value::Timestamp(_) => out.push_str(&format!("timestamp(\"{}\")", told(value).unwrap_or_default())),
        Value::Type(of) => out.push_str(&template::called(of)),
        Value::List(list) => {
            out.push('[');
            for (number, element) in list.iter().enumerate() {
                if number > 0 {
                    out.push_str(", ");
                }
                literal(&element, out, budget, depth - 1)?;
            }
            out.push(']');
            return Ok(());
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
                literal(&key.value(), out, budget, depth - 1)?;
                out.push(':');
                let value = match key {
                    Key::String(name) => map.field(name),
                    key => map.get(key),
                };
                literal(&value.unwrap_or(Value::Null), out, budget, depth - 1)?;
            }
            out.push('}');
            return Ok(());
        }
        value => {
            let wanted = Verb { name: 's', precision: None }.refuses(&value.type_of()).unwrap_or_default();
            let told = told(value).ok_or_else(|| misfit(wanted, value))?;
            out.push_str(&told);
        }
    }
    budget.work(out.len() - before)
}

/// As Go quotes texts.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
