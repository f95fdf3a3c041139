//! `int(..)`, `string(..)` and the other functions named like types, `dyn` and `type`.

use super::{Evaluated, Library, mismatch, text};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Duration, Opaque, Value, moment};

pub(super) const LIBRARY: Library = &[
    (
        &[
            "int(int) -> int",
            "int(uint) -> int",
            "int(double) -> int",
            "int(string) -> int",
            "int(timestamp) -> int",
            "int(duration) -> int",
        ],
        int,
    ),
    (&["uint(uint) -> uint", "uint(int) -> uint", "uint(double) -> uint", "uint(string) -> uint"], uint),
    (
        &[
            "double(double) -> double",
            "double(int) -> double",
            "double(uint) -> double",
            "double(string) -> double",
        ],
        double,
    ),
    (
        &[
            "string(string) -> string",
            "string(bool) -> string",
            "string(int) -> string",
            "string(uint) -> string",
            "string(double) -> string",
            "string(bytes) -> string",
            "string(duration) -> string",
            "string(timestamp) -> string",
            "string(IP) -> string",
            "string(CIDR) -> string",
        ],
        string,
    ),
    (&["bytes(bytes) -> bytes", "bytes(string) -> bytes"], bytes),
    (&["bool(bool) -> bool", "bool(string) -> bool"], bool),
    (
        &[
            "timestamp(timestamp) -> timestamp",
            "timestamp(string) -> timestamp",
            "timestamp(int) -> timestamp",
        ],
        timestamp,
    ),
    (&["duration(duration) -> duration", "duration(string) -> duration"], duration),
    (&["dyn(T) -> dyn"], same),
    (&["type(T) -> type<T>"], type_of),
];

fn range<'a>() -> Evaluated<'a> {
    Err(EvalError::failed("range error"))
}

fn conversion<'a>(of: &str) -> Evaluated<'a> {
    Err(EvalError::failed(format!("type conversion error from 'string' to '{of}'")))
}

fn int<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Int(match arguments {
        [Value::Int(value)] => *value,
        [Value::Uint(value)] => match i64::try_from(*value) {
            Ok(value) => value,
            Err(_) => return range(),
        },
        [Value::Double(value)] if value.is_finite() && value.abs() < 9_223_372_036_854_775_807.0 => {
            *value as i64
        }
        [Value::Double(_)] => return range(),
        [Value::String(text)] => match text.parse() {
            Ok(value) => value,
            Err(_) => return conversion("int"),
        },
        [Value::Timestamp(at)] => at.as_second(),
        // In nanoseconds.
        [Value::Duration(duration)] => duration.0,
        _ => return mismatch(),
    }))
}

fn uint<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Uint(match arguments {
        [Value::Uint(value)] => *value,
        [Value::Int(value)] => match u64::try_from(*value) {
            Ok(value) => value,
            Err(_) => return range(),
        },
        [Value::Double(value)] if *value >= 0.0 && *value < 18_446_744_073_709_551_615.0 => *value as u64,
        [Value::Double(_)] => return range(),
        [Value::String(text)] => match text.parse() {
            Ok(value) => value,
            Err(_) => return conversion("uint"),
        },
        _ => return mismatch(),
    }))
}

fn double<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Double(match arguments {
        [Value::Double(value)] => *value,
        [Value::Int(value)] => *value as f64,
        [Value::Uint(value)] => *value as f64,
        [Value::String(text)] => match text.parse() {
            Ok(value) => value,
            Err(_) => return conversion("double"),
        },
        _ => return mismatch(),
    }))
}

fn string<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [value] = arguments else { return mismatch() };
    if let Value::String(_) = value {
        return Ok(value.clone());
    }
    if let Value::Bytes(bytes) = value {
        budget.work(bytes.len())?;
    }
    let told =
        told(value).ok_or_else(|| EvalError::failed("invalid UTF-8 in bytes, cannot convert to string"))?;
    text(told, budget)
}

/// The text that `string(..)` and `%s` give.
pub(super) fn told(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::String(text) => text.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => shortest(*value),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.to_owned(),
        Value::Duration(duration) => duration.to_string(),
        Value::Timestamp(at) => at.to_string(),
        Value::Opaque(Opaque::Ip(address)) => address.to_string(),
        Value::Opaque(Opaque::Cidr(cidr)) => format!("{}/{}", cidr.address, cidr.length),
        _ => return None,
    })
}

/// As Go's `%g` with as many digits as are needed.
fn shortest(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        let scientific = format!("{value:e}");
        return match scientific.split_once('e') {
            Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
                Some(digits) => format!("{mantissa}e-{digits:0>2}"),
                None => format!("{mantissa}e+{exponent:0>2}"),
            },
            None => scientific,
        };
    }
    value.to_string()
}

fn bytes<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        [Value::String(text)] => {
            budget.work(text.len())?;
            Ok(Value::Bytes(text.as_bytes().into()))
        }
        _ => mismatch(),
    }
}

fn bool<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Bool(value)] => Ok(Value::Bool(*value)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => conversion("bool"),
        },
        _ => mismatch(),
    }
}

fn timestamp<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Timestamp(at)] => Ok(Value::Timestamp(*at)),
        [Value::String(text)] => match moment(text) {
            Some(at) => Ok(Value::Timestamp(at)),
            None => conversion("timestamp"),
        },
        [Value::Int(seconds)] => {
            let at = jiff::Timestamp::from_second(*seconds).ok().and_then(crate::value::in_range);
            at.map(Value::Timestamp).ok_or_else(|| EvalError::failed("timestamp overflow"))
        }
        _ => mismatch(),
    }
}

fn duration<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Duration(duration)] => Ok(Value::Duration(*duration)),
        [Value::String(text)] => match Duration::parse(text) {
            Some(duration) => Ok(Value::Duration(duration)),
            None => conversion("duration"),
        },
        _ => mismatch(),
    }
}

fn same<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [value] = arguments else { return mismatch() };
    Ok(value.clone())
}

fn type_of<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [value] = arguments else { return mismatch() };
    Ok(Value::Type(value.type_of()))
}
