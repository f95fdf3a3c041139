//! The types of values, as far as they are known before evaluation.
//!
//! Types of schemas carry more than cel-spec's: how objects' fields are called in JSON, how lists are compared, and
//! how large things can be, from which the cost of an expression is estimated.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Type {
    /// Known at evaluation only.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<ListType>),
    Map(Arc<MapType>),
    Object(Arc<ObjectType>),
    Optional(Arc<Type>),
    /// The type of types.
    Type(Arc<Type>),
    /// A type of a library, such as `kubernetes.URL`.
    Opaque(&'static str),
    /// What a generic function leaves open.
    Parameter(char),
    /// A parameter within one call, while it is checked.
    Variable(u32),
}

/// Something of which there may be `max` elements, characters or bytes.
#[derive(Clone, Debug)]
pub struct Sized {
    pub of: Type,
    pub max: u64,
}

#[derive(Clone, Debug)]
pub struct ListType {
    pub element: Sized,
    pub kind: ListKind,
}

/// What `x-kubernetes-list-type` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    /// By these keys.
    Map(Vec<String>),
}

#[derive(Clone, Debug)]
pub struct MapType {
    pub key: Sized,
    pub value: Sized,
}

#[derive(Clone, Debug)]
pub struct ObjectType {
    pub name: Arc<str>,
    /// By the names that expressions use.
    pub fields: BTreeMap<String, ObjectField>,
    /// Whether expressions may make such objects: `Name{..}`. Fields of such are what expressions say.
    pub constructible: bool,
}

#[derive(Clone, Debug)]
pub struct ObjectField {
    /// The name in JSON.
    pub property: Arc<str>,
    pub value: Sized,
}

/// There is no limit.
pub const UNBOUNDED: u64 = u64::MAX;

impl From<Type> for Sized {
    fn from(of: Type) -> Self {
        Self { of, max: UNBOUNDED }
    }
}

impl Type {
    pub fn list(element: impl Into<Sized>) -> Self {
        Self::List(Arc::new(ListType { element: element.into(), kind: ListKind::Atomic }))
    }

    pub fn map(key: impl Into<Sized>, value: impl Into<Sized>) -> Self {
        Self::Map(Arc::new(MapType { key: key.into(), value: value.into() }))
    }

    /// An object with these properties, under the names that [`crate::escape`] gives them.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (String, Sized)>) -> Self {
        let field = |(property, value): (String, Sized)| {
            let escaped = crate::escape::escaped(&property)?;
            Some((escaped, ObjectField { property: property.into(), value }))
        };
        let fields = fields.into_iter().filter_map(field).collect();
        Self::Object(Arc::new(ObjectType { name: name.into(), fields, constructible: false }))
    }

    pub fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// What the variable `authorizer` is.
    pub fn authorizer() -> Self {
        Self::Opaque(crate::authorizer::AUTHORIZER)
    }

    /// What the variable `authorizer.requestResource` is.
    pub fn resource_check() -> Self {
        Self::Opaque(crate::authorizer::RESOURCE_CHECK)
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }
}

/// Sizes and list kinds do not make types different; objects are told apart by name.
impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a.element.of == b.element.of,
            (Self::Map(a), Self::Map(b)) => a.key.of == b.key.of && a.value.of == b.value.of,
            (Self::Object(a), Self::Object(b)) => a.name == b.name,
            (Self::Optional(a), Self::Optional(b)) | (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Parameter(a), Self::Parameter(b)) => a == b,
            (Self::Variable(a), Self::Variable(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::List(list) => return write!(f, "list({})", list.element.of),
            Self::Map(map) => return write!(f, "map({}, {})", map.key.of, map.value.of),
            Self::Object(object) => &object.name,
            Self::Optional(of) => return write!(f, "optional_type({of})"),
            Self::Type(of) => return write!(f, "type({of})"),
            Self::Opaque(name) => name,
            Self::Parameter(name) => return write!(f, "{name}"),
            Self::Variable(number) => return write!(f, "_var{number}"),
        })
    }
}
