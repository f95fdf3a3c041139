//! From JSON by a type, and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::{Duration, Key, List, Map, Opaque, Text, Value};
use crate::error::EvalError;
use crate::types::Type;

impl<'a> Value<'a> {
    /// What JSON alone tells: whole numbers are ints, objects are maps.
    pub fn from_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(elements) => Self::List(List::Json(elements, None)),
            Json::Object(members) => Self::Map(Map::Json(members)),
        }
    }

    /// By the type that is declared. What does not fit it (an object from before the schema was changed) is taken as
    /// JSON says.
    pub fn typed(json: &'a Json, declared: &Type) -> Self {
        let typed = match (declared, json) {
            (Type::Double, Json::Number(number)) => number.as_f64().map(Self::Double),
            (Type::Int, Json::Number(number)) => {
                let whole = |value: &f64| value.fract() == 0.0 && value.abs() < 9e18;
                let value =
                    number.as_i64().or_else(|| number.as_f64().filter(whole).map(|value| value as i64));
                value.map(Self::Int)
            }
            (Type::Uint, Json::Number(number)) => number.as_u64().map(Self::Uint),
            (Type::Bytes, Json::String(text)) => {
                STANDARD.decode(text).ok().map(|bytes| Self::Bytes(bytes.into()))
            }
            (Type::Duration, Json::String(text)) => Duration::parse_format(text).map(Self::Duration),
            (Type::Timestamp, Json::String(text)) => timestamp(text).map(Self::Timestamp),
            (Type::List(of), Json::Array(elements)) => {
                Some(Self::List(List::Json(elements, Some(of.clone()))))
            }
            (Type::Map(of), Json::Object(members)) => Some(Self::Map(Map::Typed(members, of.clone()))),
            (Type::Object(of), Json::Object(members)) => Some(Self::Map(Map::Object(members, of.clone()))),
            _ => None,
        };
        typed.unwrap_or_else(|| Self::from_json(json))
    }

    /// The value as JSON. Maps have string keys in JSON, and functions and types do not exist there.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Uint(value) => (*value).into(),
            Self::Double(value) => double(*value)?,
            Self::String(text) => (**text).into(),
            Self::Bytes(bytes) => STANDARD.encode(bytes).into(),
            Self::Duration(duration) => duration.to_string().into(),
            Self::Timestamp(timestamp) => timestamp.to_string().into(),
            Self::List(List::Json(elements, _)) => Json::Array(elements.to_vec()),
            Self::List(list) => {
                Json::Array(list.iter().map(|element| element.to_json()).collect::<Result<_, _>>()?)
            }
            Self::Map(Map::Json(members) | Map::Typed(members, _) | Map::Object(members, _)) => {
                Json::Object((*members).clone())
            }
            Self::Map(Map::Made(made)) => {
                let mut members = serde_json::Map::new();
                for (key, value) in &made.entries {
                    let name = match (key, &made.of) {
                        (Key::String(name), Some(_)) => crate::escape::unescaped(name),
                        (Key::String(name), None) => name.to_string(),
                        _ => return Err(EvalError::failed("only maps with string keys can be JSON objects")),
                    };
                    members.insert(name, value.to_json()?);
                }
                Json::Object(members)
            }
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Optional(None) => Json::Null,
            Self::Opaque(Opaque::Quantity(quantity)) => quantity.to_string().into(),
            other => {
                let message = format!("a value of type {} cannot be converted to JSON", other.type_of());
                return Err(EvalError::failed(message));
            }
        })
    }
}

fn double(value: f64) -> Result<Json, EvalError> {
    // As Go writes doubles: 3.0 is 3.
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Ok((value as i64).into());
    }
    let number = serde_json::Number::from_f64(value);
    number.map(Json::Number).ok_or_else(|| EvalError::failed(format!("unsupported value: {value}")))
}

/// RFC 3339, or a date alone.
pub(crate) fn timestamp(text: &str) -> Option<jiff::Timestamp> {
    match text.len() {
        10 => format!("{text}T00:00:00Z").parse().ok(),
        _ => moment(text),
    }
}

/// RFC 3339 between the years 1 and 9999.
pub(crate) fn moment(text: &str) -> Option<jiff::Timestamp> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    let whole = bytes.get(10).is_some_and(|separator| matches!(separator, b'T' | b't'));
    let parsed: jiff::Timestamp = text.parse().ok().filter(|_| shaped && whole)?;
    in_range(parsed)
}

pub(crate) fn in_range(timestamp: jiff::Timestamp) -> Option<jiff::Timestamp> {
    (-62_135_596_800..=253_402_300_799).contains(&timestamp.as_second()).then_some(timestamp)
}
