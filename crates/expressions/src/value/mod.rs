//! The values that expressions work on.
//!
//! Objects are not copied: lists and maps refer to the JSON they are from and make values of their members when they
//! are asked for, by the type that a schema has declared.

mod compare;
mod duration;
mod json;
mod list;
mod map;
mod opaque;
mod text;

use std::sync::Arc;

pub use duration::Duration;
pub use list::List;
pub use map::{Key, Made, Map};
pub use opaque::{Cidr, Opaque};
pub use text::Text;

pub(crate) use compare::{compare, contains, equal, with_keys_of};
pub(crate) use json::{in_range, moment};
pub(crate) use opaque::types;

use crate::types::Type;

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Duration(Duration),
    Timestamp(jiff::Timestamp),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Type),
    Opaque(Opaque),
}

impl<'a> Value<'a> {
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    pub fn list(elements: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(elements.into()))
    }

    pub fn opaque(value: impl Into<Opaque>) -> Self {
        Self::Opaque(value.into())
    }

    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The type as far as the value alone tells.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Duration(_) => Type::Duration,
            Self::Timestamp(_) => Type::Timestamp,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(map) => map.type_of(),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Type(of) => Type::Type(Arc::new(of.clone())),
            Self::Opaque(opaque) => Type::Opaque(opaque.type_name()),
        }
    }

    /// What costs are in proportion to: characters, elements or bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Opaque(opaque) => opaque.size(),
            Self::Optional(Some(value)) => value.size(),
            _ => 1,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::string(text)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
