//! What expressions may refer to, besides functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{ObjectField, ObjectType, Sized, Type};

/// Variables with their types. A name may have dots: `variables.x` is a variable of its own, so that it can be
/// evaluated when it is first used.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Sized>,
    mutations: bool,
}

impl Environment {
    /// Kubernetes' libraries, and no variables.
    pub fn kubernetes() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &str, of: impl Into<Sized>) -> Self {
        self.variables.insert(name.to_owned(), of.into());
        self
    }

    /// Expressions may make what mutations are written as: `Object{..}`, `Object.spec{..}` and `JSONPatch{..}`.
    #[must_use]
    pub fn with_mutations(mut self) -> Self {
        self.mutations = true;
        self
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Sized> {
        self.variables.get(name)
    }

    /// Whether names begin with this one and a dot.
    pub(crate) fn is_prefix(&self, name: &str) -> bool {
        let prefix = format!("{name}.");
        self.variables.range(prefix.clone()..).next().is_some_and(|(found, _)| found.starts_with(&prefix))
    }

    /// The type that `name{..}` makes.
    pub(crate) fn constructible(&self, name: &str) -> Option<Arc<ObjectType>> {
        if !self.mutations {
            return None;
        }
        let fields = match name {
            JSON_PATCH => {
                let field = |name: &str, of: Type| {
                    (name.to_owned(), ObjectField { property: name.into(), value: of.into() })
                };
                BTreeMap::from([
                    field("op", Type::String),
                    field("path", Type::String),
                    field("from", Type::String),
                    field("value", Type::Dyn),
                ])
            }
            OBJECT => BTreeMap::new(),
            _ if name.starts_with("Object.") => BTreeMap::new(),
            _ => return None,
        };
        Some(Arc::new(ObjectType { name: name.into(), fields, constructible: true }))
    }
}

/// The object that a mutation is about.
pub const OBJECT: &str = "Object";
/// One operation of a JSON patch.
pub const JSON_PATCH: &str = "JSONPatch";
