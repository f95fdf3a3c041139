//! `x-kubernetes-validations`: CEL rules of authors, compiled with the schema they stand in and evaluated for the parts
//! of objects that they are about.

mod check;
mod rule;

use api::field::{FieldErrors, Path};
use api::structural::Structural;
use api::structural::same::{OldItems, same};
use expressions::{Budget, schema};
use serde_json::Value;

pub use check::check_definition;
use rule::Rule;

/// The rules of a version, in the shape of its schema; nothing where there are none.
#[derive(Default)]
pub struct Rules(Option<Node>);

/// A part of the schema that has rules, or parts with rules.
struct Node {
    of: expressions::Type,
    rules: Vec<Rule>,
    fields: Vec<(String, Node)>,
    values: Option<Box<Node>>,
    items: Option<Box<Node>>,
}

/// Deeper schemas have no rules.
const MAX_DEPTH: usize = 100;

impl Rules {
    /// From the schema as it was written. What does not compile was refused with its definition.
    pub fn compile(schema: &Value) -> Self {
        Self(Node::compile(schema, true, 0))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The rules that the object, or the change of it, breaks.
    pub fn judge(&self, object: &Value, old: Option<&Value>, schema: &Structural, found: &mut Found) {
        if let Some(node) = &self.0 {
            let part = Part { value: object, old, schema: Some(schema), kept: false };
            // Running out of it ends everything.
            let _ = node.judge(&part, &Path::ROOT, &mut Budget::default(), found);
        }
    }
}

/// Broken rules.
#[derive(Default)]
pub struct Found {
    pub errors: FieldErrors,
    /// Of parts that have been as they are: nobody is refused for them.
    pub forgiven: FieldErrors,
}

/// A part of an object, and what it was.
struct Part<'v, 's> {
    value: &'v Value,
    old: Option<&'v Value>,
    schema: Option<&'s Structural>,
    /// It is as it was, alone or within what it is in.
    kept: bool,
}

/// The budget is used up.
struct Exhausted;

impl Node {
    fn compile(schema: &Value, root: bool, depth: usize) -> Option<Self> {
        if depth > MAX_DEPTH || !schema.is_object() {
            return None;
        }
        let below = |schema: &Value| Self::compile(schema, false, depth + 1).map(Box::new);
        let fields: Vec<(String, Node)> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, property)| Some((name.clone(), Self::compile(property, false, depth + 1)?)))
            .collect();
        let (values, items) = (below(&schema["additionalProperties"]), below(&schema["items"]));
        let written = schema["x-kubernetes-validations"].as_array().filter(|rules| !rules.is_empty());
        if written.is_none() && fields.is_empty() && values.is_none() && items.is_none() {
            return None;
        }
        let sized = schema::sized(schema, root);
        Some(Self {
            rules: written
                .into_iter()
                .flatten()
                .filter_map(|rule| Rule::compile(rule, &sized).ok())
                .collect(),
            of: sized.of,
            fields,
            values,
            items,
        })
    }

    fn judge(
        &self,
        part: &Part<'_, '_>,
        path: &Path<'_>,
        budget: &mut Budget,
        found: &mut Found,
    ) -> Result<(), Exhausted> {
        let Part { value, old, schema, .. } = *part;
        if value.is_null() {
            return Ok(());
        }
        let kept = part.kept || old.is_some_and(|old| same(value, old, schema));
        for rule in &self.rules {
            rule.judge(&Part { kept, ..*part }, &self.of, path, budget, found)?;
        }
        match value {
            Value::Object(entries) => {
                let below = |key: &str, value| Part {
                    value,
                    old: old.and_then(|old| old.get(key)),
                    schema: schema.and_then(|schema| schema.child(key)),
                    kept,
                };
                for (name, node) in &self.fields {
                    if let Some(value) = entries.get(name) {
                        node.judge(&below(name, value), &path.child(name), budget, found)?;
                    }
                }
                if let Some(node) = &self.values {
                    for (key, value) in entries {
                        node.judge(&below(key, value), &path.key(key), budget, found)?;
                    }
                }
            }
            Value::Array(items) => {
                if let Some(node) = &self.items {
                    let known = OldItems::of(old, schema);
                    for (index, value) in items.iter().enumerate() {
                        let old = known.as_ref().and_then(|known| known.find(value));
                        let schema = schema.and_then(|schema| schema.items.as_deref());
                        let part = Part { value, old, schema, kept };
                        node.judge(&part, &path.index(index), budget, found)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
