//! Maps and objects: of JSON, or made by an expression.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Text, Value};
use crate::types::{MapType, ObjectType, Type};

type JsonMap = serde_json::Map<String, Json>;

#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Members are what JSON says.
    Json(&'a JsonMap),
    Typed(&'a JsonMap, Arc<MapType>),
    /// Fields by their escaped names; properties that the type does not know are hidden.
    Object(&'a JsonMap, Arc<ObjectType>),
    Made(Arc<Made<'a>>),
}

#[derive(Debug)]
pub struct Made<'a> {
    /// `Name{..}` has made it.
    pub of: Option<Arc<ObjectType>>,
    pub entries: BTreeMap<Key<'a>, Value<'a>>,
}

/// Keys of maps that expressions make. Integers are equal whether signed or not.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Text<'a>),
}

impl<'a> Key<'a> {
    pub fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => Self::Uint(*value),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9e18 => Self::Int(*value as i64),
            Value::String(text) => Self::String(text.clone()),
            _ => return None,
        })
    }

    pub fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(text) => Value::String(text.clone()),
        }
    }

    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Self::Bool(value) => (0, i128::from(*value), ""),
            Self::Int(value) => (1, i128::from(*value), ""),
            Self::Uint(value) => (1, i128::from(*value), ""),
            Self::String(text) => (2, 0, text),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<'a> Map<'a> {
    pub fn made(entries: BTreeMap<Key<'a>, Value<'a>>) -> Self {
        Self::Made(Arc::new(Made { of: None, entries }))
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Json(json) | Self::Typed(json, _) => json.len(),
            Self::Object(json, of) => {
                of.fields.values().filter(|field| json.contains_key(&*field.property)).count()
            }
            Self::Made(made) => made.entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, key: &Key<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Self::Made(made), _) => made.entries.get(key).cloned(),
            (_, Key::String(name)) => self.field(name),
            _ => None,
        }
    }

    /// What `.name` selects.
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Self::Json(json) => json.get(name).map(Value::from_json),
            Self::Typed(json, of) => json.get(name).map(|json| Value::typed(json, &of.value.of)),
            Self::Object(json, of) => {
                let field = of.fields.get(name)?;
                json.get(&*field.property).map(|json| Value::typed(json, &field.value.of))
            }
            Self::Made(made) => made.entries.get(&Key::String(Text::Shared(name.into()))).cloned(),
        }
    }

    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Self::Json(json) | Self::Typed(json, _) => {
                json.keys().map(|name| Key::String(Text::Borrowed(name))).collect()
            }
            Self::Object(json, of) => {
                let present = of.fields.iter().filter(|(_, field)| json.contains_key(&*field.property));
                present.map(|(name, _)| Key::String(Text::Shared(name.as_str().into()))).collect()
            }
            Self::Made(made) => made.entries.keys().cloned().collect(),
        }
    }

    /// The type that `Name{..}` has made it of.
    pub(crate) fn object_type(&self) -> Option<&Arc<ObjectType>> {
        match self {
            Self::Made(made) => made.of.as_ref(),
            Self::Object(_, of) => Some(of),
            _ => None,
        }
    }

    pub(crate) fn type_of(&self) -> Type {
        match self.object_type() {
            Some(of) => Type::Object(of.clone()),
            None => Type::map(Type::Dyn, Type::Dyn),
        }
    }
}
