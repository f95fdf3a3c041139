//! The definitions of a document: those that its paths refer to, and what these refer to in turn.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};
use serde_json::{Map, Value, json};

use super::Dialect;
use crate::gvk::GroupVersionKind;
use crate::registry::Registry;
use crate::schema::builtin::{self, Description};
use crate::schema::{Field, ListType, Object, Schema, SchemaRef, Shape};
use crate::structural::publish;

/// In protobuf like `RawExtension`, which is an object, but this may be any value.
const ANY_JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";

/// Collects references while paths are written, then yields the definitions.
pub(super) struct Definitions<'a> {
    registry: &'a Registry,
    dialect: Dialect,
    descriptions: Vec<Description>,
    kinds: AHashMap<String, GroupVersionKind>,
    seen: AHashSet<String>,
    waiting: VecDeque<String>,
}

impl<'a> Definitions<'a> {
    pub(super) fn new(registry: &'a Registry, dialect: Dialect) -> Self {
        Self {
            registry,
            dialect,
            descriptions: builtin::descriptions(),
            kinds: kinds(registry),
            seen: AHashSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// A reference to a definition, which will then be part of the document.
    pub(super) fn reference(&mut self, name: &str) -> Value {
        if self.seen.insert(name.to_owned()) {
            self.waiting.push_back(name.to_owned());
        }
        match self.dialect {
            Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }

    fn definition(&mut self, name: &str) -> Value {
        let mut definition = match builtin::named(name) {
            Some(SchemaRef::Builtin(index)) => {
                let description = self.descriptions.get_mut(usize::from(index)).map(std::mem::take);
                self.schema(builtin::definition(index), &description.unwrap_or_default())
            }
            _ => self.custom(name),
        };
        let Some(object) = definition.as_object_mut() else { return definition };
        if name == ANY_JSON {
            object.remove("type");
        }
        if let Some(gvk) = self.kinds.get(name) {
            let kind = json!([{"group": gvk.group, "version": gvk.version, "kind": gvk.kind}]);
            object.insert("x-kubernetes-group-version-kind".to_owned(), kind);
        }
        definition
    }

    /// A custom resource (as its author wrote it, where that is known) or the list of one.
    fn custom(&mut self, name: &str) -> Value {
        if let Some(resource) = self.kinds.get(name).and_then(|gvk| self.registry.kind(gvk)) {
            return match (&resource.custom, resource.schema()) {
                (Some(custom), _) => {
                    let metadata = self.reference(publish::OBJECT_META);
                    match self.dialect {
                        Dialect::V2 => publish::v2(&custom.published(), metadata),
                        Dialect::V3 => publish::v3(&custom.published(), metadata),
                    }
                }
                (None, Some(schema)) => self.schema(schema, &Description::default()),
                (None, None) => json!({"type": "object"}),
            };
        }
        let item = name
            .strip_suffix("List")
            .map(|item| self.reference(item))
            .unwrap_or_else(|| json!({"type": "object"}));
        let meta = self.reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
        json!({
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": self.described(meta, ""),
                "items": {"type": "array", "items": item},
            },
        })
    }

    fn schema(&mut self, schema: &Schema, description: &Description) -> Value {
        let mut json = match &schema.shape {
            Shape::Any(crate::schema::Opaque::Raw) => json!({"type": "object"}),
            Shape::Any(crate::schema::Opaque::Json) => {
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
            }
            Shape::Any(_) => json!({}),
            Shape::Boolean => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Number => json!({"type": "number", "format": "double"}),
            Shape::String => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
            Shape::Quantity => match self.dialect {
                Dialect::V2 => json!({"type": "string"}),
                Dialect::V3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            },
            Shape::IntOrString => match self.dialect {
                Dialect::V2 => json!({"type": "string", "format": "int-or-string"}),
                Dialect::V3 => {
                    json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
                }
            },
            Shape::List(list) => {
                let mut json = json!({"type": "array", "items": self.referenced(&list.items, "")});
                match &list.list_type {
                    ListType::Atomic => json["x-kubernetes-list-type"] = "atomic".into(),
                    ListType::Set => json["x-kubernetes-list-type"] = "set".into(),
                    ListType::Map(keys) => {
                        json["x-kubernetes-list-type"] = "map".into();
                        json["x-kubernetes-list-map-keys"] =
                            keys.iter().map(AsRef::as_ref).collect::<Vec<&str>>().into();
                    }
                }
                json
            }
            Shape::Map(map) => {
                let mut json =
                    json!({"type": "object", "additionalProperties": self.referenced(&map.values, "")});
                if map.atomic {
                    json["x-kubernetes-map-type"] = "atomic".into();
                }
                json
            }
            Shape::Object(object) => self.object(object, &description.fields),
        };
        if let (false, Some(json)) = (description.text.is_empty(), json.as_object_mut()) {
            json.insert("description".to_owned(), description.text.as_str().into());
        }
        json
    }

    fn object(&mut self, object: &Object, descriptions: &[String]) -> Value {
        let mut properties = Map::new();
        for (number, field) in object.fields.iter().enumerate() {
            let description = descriptions.get(number).map(String::as_str).unwrap_or_default();
            properties.insert(field.name.to_string(), self.field(field, description));
        }
        let mut json = json!({"type": "object"});
        if !properties.is_empty() {
            json["properties"] = properties.into();
        }
        let required: Vec<&str> =
            object.fields.iter().filter(|field| field.required).map(|field| field.name.as_ref()).collect();
        if !required.is_empty() {
            json["required"] = required.into();
        }
        if object.atomic {
            json["x-kubernetes-map-type"] = "atomic".into();
        }
        if object.preserve_unknown {
            json["x-kubernetes-preserve-unknown-fields"] = true.into();
        }
        if object.embedded {
            json["x-kubernetes-embedded-resource"] = true.into();
        }
        json
    }

    fn field(&mut self, field: &Field, description: &str) -> Value {
        let mut json = self.referenced(&field.schema, description);
        let strategy = match (field.patch_merge, field.patch_retain_keys) {
            (true, true) => Some("merge,retainKeys"),
            (true, false) => Some("merge"),
            (false, true) => Some("retainKeys"),
            (false, false) => None,
        };
        if let Some(strategy) = strategy {
            json["x-kubernetes-patch-strategy"] = strategy.into();
        }
        if let Some(key) = &field.patch_merge_key {
            json["x-kubernetes-patch-merge-key"] = key.as_ref().into();
        }
        if let Some(default) = &field.default {
            json["default"] = Value::clone(default);
        }
        json
    }

    /// A type by its name, or written out where it has none.
    fn referenced(&mut self, schema: &SchemaRef, description: &str) -> Value {
        let name = match schema {
            SchemaRef::Builtin(index) => builtin::name(*index),
            SchemaRef::Inline(_) => None,
        };
        match name {
            Some(name) => {
                let reference = self.reference(name);
                self.described(reference, description)
            }
            None => self.schema(schema, &Description { text: description.to_owned(), fields: Vec::new() }),
        }
    }

    /// A reference with a description. In OpenAPI 3.0 nothing may stand beside `$ref`.
    fn described(&self, reference: Value, description: &str) -> Value {
        let mut json = match self.dialect {
            _ if description.is_empty() => return reference,
            Dialect::V2 => reference,
            Dialect::V3 => json!({"allOf": [reference]}),
        };
        json["description"] = description.into();
        json
    }
}

/// Yields what has been referred to, and what that refers to, each once.
impl Iterator for Definitions<'_> {
    type Item = (String, Value);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.waiting.pop_front()?;
        let definition = self.definition(&name);
        Some((name, definition))
    }
}

/// The name of the definition of a kind: the published one, or for custom resources the reversed group with version
/// and kind (`com.example.stable.v1.CronTab`).
pub(super) fn name_of(gvk: &GroupVersionKind) -> String {
    match builtin::name_of(gvk) {
        Some(name) if builtin::named(&name).is_some() => name,
        _ => {
            let mut parts: Vec<&str> = gvk.group.split('.').rev().collect();
            parts.extend([gvk.version.as_str(), gvk.kind.as_str()]);
            parts.join(".")
        }
    }
}

/// Which definitions are objects of their own, with `apiVersion` and `kind`.
fn kinds(registry: &Registry) -> AHashMap<String, GroupVersionKind> {
    let mut kinds = AHashMap::new();
    for resource in registry.iter() {
        let name = name_of(&resource.gvk);
        let list = resource.group_version().with_kind(&resource.list_kind);
        kinds.insert(format!("{name}List"), list);
        kinds.insert(name, resource.gvk.clone());
        for sub in &resource.subresources {
            kinds.insert(name_of(&sub.gvk), sub.gvk.clone());
        }
    }
    for kind in ["DeleteOptions", "Status", "APIGroup", "APIGroupList", "APIResourceList", "APIVersions"] {
        kinds.insert(
            format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"),
            GroupVersionKind::new("", "v1", kind),
        );
    }
    kinds
}
