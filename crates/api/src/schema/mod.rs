//! What an object may look like: a tree of types with the facts that patches, pruning and printing need.
//!
//! Built-in kinds come from one compact table ([`builtin`]) in which definitions are shared by number, so that
//! recursion (`JSONSchemaProps`) and reuse (`PodSpec` under eight kinds) cost nothing. Custom resources bring their
//! own tree. Both are read through [`Schema`]; nobody needs to know which of the two it is.

pub mod builtin;
mod check;
mod custom;

pub use check::{SchemaError, SchemaReport, strict_decoding_error};
pub use custom::CustomSchemaError;

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The type of one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    pub shape: Shape,
    /// An explicit `null` is a value here, not an absence. Only custom resources have that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nullable: bool,
}

/// What kind of value it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Shape {
    /// Any JSON value, kept as it is.
    Any(Opaque),
    Boolean,
    Int32,
    Int64,
    Number,
    String,
    /// Base64 text.
    Bytes,
    /// RFC 3339 to the second (`metav1.Time`).
    Time,
    /// RFC 3339 to the microsecond (`metav1.MicroTime`).
    MicroTime,
    /// `resource.Quantity`: a string, or a number that is read as one.
    Quantity,
    IntOrString,
    List(List),
    Map(Map),
    Object(Object),
}

/// How an untyped value is held in protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opaque {
    /// Has no protobuf form (custom resources).
    Json,
    /// A message with the JSON text as bytes in field 1: `RawExtension`, `FieldsV1`, `apiextensions.JSON`.
    Raw,
    /// `JSONSchemaPropsOrArray`: a schema in field 1 or several in field 2.
    SchemaOrArray,
    /// `JSONSchemaPropsOrBool`: a boolean in field 1 and a schema in field 2.
    SchemaOrBool,
    /// `JSONSchemaPropsOrStringArray`: a schema in field 1 or strings in field 2.
    SchemaOrStrings,
}

/// An array.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    pub items: SchemaRef,
    #[serde(default, skip_serializing_if = "is_default")]
    pub list_type: ListType,
    /// In protobuf the list sits in a message of its own (`ExtraValue`), because a map cannot have lists as values.
    #[serde(default, skip_serializing_if = "is_false")]
    pub wrapped: bool,
}

/// `x-kubernetes-list-type`: who owns what when several managers apply the same list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListType {
    /// One value as a whole. The default where nothing is said.
    #[default]
    Atomic,
    /// Scalars, each of its own.
    Set,
    /// Objects, told apart by these fields (`x-kubernetes-list-map-keys`).
    Map(Vec<Cow<'static, str>>),
}

/// An object with arbitrary keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Map {
    pub values: SchemaRef,
    /// `x-kubernetes-map-type: atomic`: owned as a whole.
    #[serde(default, skip_serializing_if = "is_false")]
    pub atomic: bool,
}

/// An object with known fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// `x-kubernetes-map-type: atomic`: owned as a whole.
    #[serde(default, skip_serializing_if = "is_false")]
    pub atomic: bool,
    /// `x-kubernetes-preserve-unknown-fields`: what is not specified is kept.
    #[serde(default, skip_serializing_if = "is_false")]
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: has `apiVersion`, `kind` and `metadata` of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub embedded: bool,
}

/// A field of an [`Object`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    pub name: Cow<'static, str>,
    pub schema: SchemaRef,
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// `x-kubernetes-patch-strategy` contains `merge`: strategic merge patch merges this list item by item.
    #[serde(default, skip_serializing_if = "is_false")]
    pub patch_merge: bool,
    /// `x-kubernetes-patch-strategy` contains `retainKeys`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub patch_retain_keys: bool,
    /// `x-kubernetes-patch-merge-key`. A merged list without one is a set of scalars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_merge_key: Option<Cow<'static, str>>,
    /// The value that a missing key of an associative list stands for, and what custom resources are defaulted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Box<serde_json::Value>>,
    /// An empty value (`false`, `0`, `""`, `[]`, `{}`) is the same as no value, and is not kept. So it is with Go's
    /// types that are no pointers; custom resources keep what they are given.
    #[serde(default, skip_serializing_if = "is_false")]
    pub zero_is_absent: bool,
    /// The field numbers in protobuf that lead from the object to the field: several where Go embeds a struct, which
    /// JSON inlines and protobuf nests. Empty where it has no protobuf form.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tags: Box<[u32]>,
}

/// A schema held in place, or a definition of the built-in table. Dereferences to the schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SchemaRef {
    Inline(Arc<Schema>),
    /// Index into [`builtin::definitions`].
    Builtin(u16),
}

impl Deref for SchemaRef {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        match self {
            SchemaRef::Inline(schema) => schema,
            SchemaRef::Builtin(index) => builtin::definition(*index),
        }
    }
}

impl From<Schema> for SchemaRef {
    fn from(schema: Schema) -> Self {
        SchemaRef::Inline(Arc::new(schema))
    }
}

impl From<Shape> for Schema {
    fn from(shape: Shape) -> Self {
        Self { shape, nullable: false }
    }
}

impl Schema {
    /// The field of that name, where this is an object that has it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let Shape::Object(object) = &self.shape else {
            return None;
        };
        object.field(name)
    }

    /// The schema under a key: a field of an object or a value of a map.
    pub fn child(&self, key: &str) -> Option<&Schema> {
        match &self.shape {
            Shape::Object(object) => object.field(key).map(|field| &*field.schema),
            Shape::Map(map) => Some(&map.values),
            _ => None,
        }
    }

    /// The schema of a list's items.
    pub fn items(&self) -> Option<&Schema> {
        match &self.shape {
            Shape::List(list) => Some(&list.items),
            _ => None,
        }
    }

    /// The schema of a map's values.
    pub fn values(&self) -> Option<&Schema> {
        match &self.shape {
            Shape::Map(map) => Some(&map.values),
            _ => None,
        }
    }

    /// How a list is owned, where this is one.
    pub fn list_type(&self) -> Option<&ListType> {
        match &self.shape {
            Shape::List(list) => Some(&list.list_type),
            _ => None,
        }
    }

    /// An object or map that is owned as a whole.
    pub fn is_atomic_map(&self) -> bool {
        match &self.shape {
            Shape::Object(object) => object.atomic,
            Shape::Map(map) => map.atomic,
            _ => false,
        }
    }
}

impl Object {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let index = self.fields.binary_search_by(|field| field.name.as_ref().cmp(name)).ok()?;
        self.fields.get(index)
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
