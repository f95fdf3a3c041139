//! Lists: of an object, or made by an expression.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Value;
use crate::types::{ListKind, ListType, Type};

#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Without a type the elements are what JSON says.
    Json(&'a [Json], Option<Arc<ListType>>),
    Made(Arc<[Value<'a>]>),
    /// Made of lists that have a kind, and compared as such.
    Kept(Arc<[Value<'a>]>, Arc<ListType>),
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(elements, _) => elements.len(),
            Self::Made(elements) | Self::Kept(elements, _) => elements.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(elements, of) => {
                let element = of.as_ref().map_or(&Type::Dyn, |of| &of.element.of);
                elements.get(index).map(|json| Value::typed(json, element))
            }
            Self::Made(elements) | Self::Kept(elements, _) => elements.get(index).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn list_type(&self) -> Option<&Arc<ListType>> {
        match self {
            Self::Json(_, of) => of.as_ref(),
            Self::Made(_) => None,
            Self::Kept(_, of) => Some(of),
        }
    }

    pub(crate) fn kind(&self) -> &ListKind {
        self.list_type().map_or(&ListKind::Atomic, |of| &of.kind)
    }
}
