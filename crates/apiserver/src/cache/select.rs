//! Which objects a list or watch is about.

use std::borrow::Cow;
use std::sync::Arc;

use api::selector::{FieldSelector, LabelSelector};

use super::object::Object;

/// Scope and selectors of a list or watch.
#[derive(Clone)]
pub struct Selection {
    /// Empty for all namespaces.
    pub namespace: String,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// The names of [`super::object::Meta::fields`], as the storage has them.
    pub selectable: Arc<[String]>,
    pub namespaced: bool,
}

impl Selection {
    /// Everything in a namespace, or everywhere.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    pub fn matches(&self, object: &Object) -> bool {
        if !self.namespace.is_empty() && object.namespace() != self.namespace {
            return false;
        }
        self.labels.matches(&object.meta.labels[..])
            && (self.fields.is_everything() || self.fields.matches(|field| self.field(object, field)))
    }

    fn field<'a>(&self, object: &'a Object, field: &str) -> Cow<'a, str> {
        match field {
            "metadata.name" => object.name().into(),
            "metadata.namespace" => object.namespace().into(),
            _ => {
                let index = self.selectable.iter().position(|known| known == field);
                index
                    .and_then(|index| object.meta.fields.get(index))
                    .map_or(Cow::Borrowed(""), |value| (&**value).into())
            }
        }
    }

    /// The key of the only object that can match, where the selectors name one.
    pub fn single_key(&self) -> Option<String> {
        let name = self.fields.exact("metadata.name")?;
        let namespace = match self.fields.exact("metadata.namespace") {
            Some(namespace) if self.namespace.is_empty() => namespace,
            Some(namespace) if namespace != self.namespace => return None,
            _ => &self.namespace,
        };
        match (self.namespaced, namespace) {
            (true, "") => None,
            (true, namespace) => Some(format!("{namespace}/{name}")),
            (false, _) => Some(name.to_owned()),
        }
    }
}
