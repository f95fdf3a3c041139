//! The structural schema of a custom resource: what its author says that objects look like.
//!
//! A [`Structural`] is a compact tree made from `spec.versions[*].schema.openAPIV3Schema`. Objects are brought into
//! shape by it ([`prune`], [`default`]) and judged by it ([`validate`], [`list_type`], [`metadata`], [`rules`]).
//! Whether an author's schema is acceptable at all is decided in [`crate::validation`], before anything here sees it;
//! still nothing here fails on a schema that nobody has checked: what cannot be understood holds for everything.

pub mod default;
pub mod format;
pub mod list_type;
pub mod metadata;
mod parse;
pub mod pattern;
pub mod prune;
pub mod publish;
pub mod rules;
pub mod same;
pub mod validate;

#[cfg(test)]
mod tests;

use serde_json::{Number, Value};

use crate::field::Path;
use pattern::Pattern;
pub use rules::Rule;

/// What kind of JSON value is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Nothing is said.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    pub fn parse(name: &str) -> Self {
        match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => Self::Any,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// One node of a schema. The nodes in `allOf`, `anyOf`, `oneOf` and `not` are of the same type, without what gives
/// shape.
#[derive(Debug, Default)]
pub struct Structural {
    pub kind: Type,
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `x-kubernetes-map-type: atomic`
    pub map_atomic: bool,
    pub list_type: ListType,
    /// `properties`, sorted by name.
    pub fields: Box<[(Box<str>, Structural)]>,
    pub additional: Additional,
    pub items: Option<Box<Structural>>,
    pub default: Option<Box<Value>>,
    pub checks: Option<Box<Checks>>,
    /// `x-kubernetes-validations`
    pub rules: Box<[Rule]>,
}

/// `additionalProperties`
#[derive(Debug, Default)]
pub enum Additional {
    #[default]
    None,
    Any,
    Of(Box<Structural>),
}

/// `x-kubernetes-list-type`
#[derive(Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// With the keys by which items are told apart.
    Map(Box<[Box<str>]>),
}

/// What values have to satisfy beyond their type.
#[derive(Debug, Default)]
pub struct Checks {
    pub minimum: Option<Number>,
    pub exclusive_minimum: bool,
    pub maximum: Option<Number>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<Number>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub pattern: Option<Pattern>,
    pub format: Option<format::Format>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub required: Box<[Box<str>]>,
    pub allowed: Box<[Value]>,
    pub all_of: Box<[Structural]>,
    pub any_of: Box<[Structural]>,
    pub one_of: Box<[Structural]>,
    pub not: Option<Box<Structural>>,
}

/// Top-level fields that every object has, whatever its schema says.
pub const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Structural {
    /// The schema of that property.
    pub fn field(&self, name: &str) -> Option<&Structural> {
        let index = self.fields.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.fields.get(index).map(|(_, schema)| schema)
    }

    /// The schema of what is under a key: a property, or else a value of the map.
    pub fn child(&self, key: &str) -> Option<&Structural> {
        self.field(key).or(match &self.additional {
            Additional::Of(values) => Some(values),
            Additional::None | Additional::Any => None,
        })
    }

    /// A map that takes any key.
    pub fn is_free_map(&self) -> bool {
        !matches!(self.additional, Additional::None)
    }

    /// Whether any node below (or this one) satisfies `found`.
    pub fn any(&self, found: &mut dyn FnMut(&Structural) -> bool) -> bool {
        if found(self) {
            return true;
        }
        let values = match &self.additional {
            Additional::Of(values) => Some(&**values),
            Additional::None | Additional::Any => None,
        };
        let children =
            self.fields.iter().map(|(_, schema)| schema).chain(self.items.as_deref()).chain(values);
        for child in children {
            if child.any(found) {
                return true;
            }
        }
        false
    }

    /// Shows every part of a value for which there is a schema, with where it is: the whole before its parts.
    pub fn visit(&self, value: &Value, path: &Path<'_>, see: &mut dyn FnMut(&Structural, &Value, &Path<'_>)) {
        see(self, value, path);
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    match (self.field(key), &self.additional) {
                        (Some(schema), _) => schema.visit(value, &path.child(key), see),
                        (None, Additional::Of(values)) => values.visit(value, &path.key(key), see),
                        _ => {}
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = self.items.as_deref() {
                    for (index, item) in items.iter().enumerate() {
                        schema.visit(item, &path.index(index), see);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether a null that is no value is told to be of a wrong type.
    fn judges_null(&self) -> bool {
        self.kind != Type::Any || self.int_or_string
    }

    /// A null that is as good as no value.
    fn refuses_null(&self, value: &Value) -> bool {
        value.is_null() && !self.nullable
    }
}
