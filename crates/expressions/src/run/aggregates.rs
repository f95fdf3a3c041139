//! Lists, maps and objects that expressions write out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Interpreter;
use super::cost::{LIST, MAP, STRUCT};
use crate::ast::{Element, Entry, Expr, Kind, Struct};
use crate::error::EvalError;
use crate::functions::Evaluated;
use crate::types::ObjectType;
use crate::value::{Key, Made, Map, Text, Value};

impl<'p, 'a> Interpreter<'p, '_, 'a> {
    pub(super) fn list(&mut self, elements: &'p [Element]) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(elements.len());
        for element in elements {
            values.extend(self.part(&element.value, element.optional)?);
        }
        // What is made of constants is, upstream, made when the expression is compiled.
        if !elements.iter().all(|element| !element.optional && is_constant(&element.value)) {
            self.budget.charge(LIST)?;
        }
        Ok(Value::list(values))
    }

    /// A part of an aggregate; `?` parts are left out when they are none.
    fn part(&mut self, node: &'p Expr, optional: bool) -> Result<Option<Value<'a>>, EvalError> {
        let value = self.evaluate(node)?;
        match (optional, value) {
            (false, value) => Ok(Some(value)),
            (true, Value::Optional(held)) => Ok(held.map(|held| (*held).clone())),
            (true, _) => Err(EvalError::NoSuchOverload),
        }
    }

    pub(super) fn map(&mut self, entries: &'p [Entry]) -> Evaluated<'a> {
        let mut made = BTreeMap::new();
        for entry in entries {
            let key = self.evaluate(&entry.key)?;
            let key = Key::of(&key).ok_or_else(|| EvalError::failed("unsupported key type"))?;
            if let Some(value) = self.part(&entry.value, entry.optional)?
                && made.insert(key, value).is_some()
            {
                return Err(EvalError::failed("Failed with repeated key"));
            }
        }
        if !entries.iter().all(is_constant_entry) {
            self.budget.charge(MAP)?;
        }
        Ok(Value::Map(Map::made(made)))
    }

    pub(super) fn structure(&mut self, literal: &'p Struct) -> Evaluated<'a> {
        let mut entries = BTreeMap::new();
        for field in &literal.fields {
            let Some(value) = self.part(&field.value, field.optional)? else { continue };
            if literal.name != crate::environment::JSON_PATCH {
                path_matches(&value, &literal.name, &field.name)?;
            }
            entries.insert(Key::String(Text::Shared(field.name.as_str().into())), value);
        }
        self.budget.charge(STRUCT)?;
        let of =
            ObjectType { name: literal.name.as_str().into(), fields: BTreeMap::new(), constructible: true };
        Ok(Value::Map(Map::Made(Arc::new(Made { of: Some(Arc::new(of)), entries }))))
    }
}

fn is_constant(node: &Expr) -> bool {
    match &node.kind {
        Kind::Literal(_) => true,
        Kind::List(elements) => {
            elements.iter().all(|element| !element.optional && is_constant(&element.value))
        }
        Kind::Map(entries) => entries.iter().all(is_constant_entry),
        _ => false,
    }
}

fn is_constant_entry(entry: &Entry) -> bool {
    !entry.optional && is_constant(&entry.key) && is_constant(&entry.value)
}

/// The type of an object within an object is named by its path: `Object{spec: Object.spec{..}}`.
fn path_matches(value: &Value<'_>, parent: &str, field: &str) -> Result<(), EvalError> {
    match value {
        Value::Map(map) => match map.object_type().filter(|of| of.constructible) {
            Some(of) => {
                let expected = format!("{parent}.{field}");
                if *of.name == *expected {
                    return Ok(());
                }
                let message = format!(
                    "unexpected type name \"{}\", expected \"{expected}\", which matches field name path from root Object type",
                    of.name
                );
                Err(EvalError::failed(message))
            }
            None => {
                let Map::Made(made) = map else { return Ok(()) };
                made.entries.values().try_for_each(|value| path_matches(value, parent, field))
            }
        },
        Value::List(crate::value::List::Made(elements)) => {
            elements.iter().try_for_each(|element| path_matches(element, parent, field))
        }
        _ => Ok(()),
    }
}
