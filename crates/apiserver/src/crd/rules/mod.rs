//! `x-kubernetes-validations`: CEL rules of authors, compiled with the schema they stand in and evaluated for the parts
//! of objects that they are about.

mod check;
mod rule;

use api::field::{FieldErrors, Path};
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
    /// How items of the old list are found again.
    keys: Option<Vec<String>>,
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
    pub fn judge(&self, object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
        if let Some(node) = &self.0 {
            // Running out of it ends everything.
            let _ = node.judge(object, old, &Path::ROOT, &mut Budget::default(), errors);
        }
    }
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
            keys: (schema["x-kubernetes-list-type"] == "map").then(|| {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                keys.filter_map(Value::as_str).map(str::to_owned).collect()
            }),
        })
    }

    fn judge(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &Path<'_>,
        budget: &mut Budget,
        errors: &mut FieldErrors,
    ) -> Result<(), Exhausted> {
        let unchanged = old == Some(value);
        for rule in &self.rules {
            // What has not been touched may stay as it is.
            if !unchanged || rule.is_transition() {
                rule.judge(value, old, &self.of, path, budget, errors)?;
            }
        }
        match value {
            Value::Object(entries) => {
                let old = |key: &str| old.and_then(|old| old.get(key));
                for (name, node) in &self.fields {
                    if let Some(value) = entries.get(name) {
                        node.judge(value, old(name), &path.child(name), budget, errors)?;
                    }
                }
                if let Some(node) = &self.values {
                    for (key, value) in entries {
                        node.judge(value, old(key), &path.key(key), budget, errors)?;
                    }
                }
            }
            Value::Array(items) => {
                if let Some(node) = &self.items {
                    for (index, item) in items.iter().enumerate() {
                        let old = self.keys.as_ref().and_then(|keys| same_item(old, item, keys));
                        node.judge(item, old, &path.index(index), budget, errors)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The item of the old list that has the same keys.
fn same_item<'v>(old: Option<&'v Value>, item: &Value, keys: &[String]) -> Option<&'v Value> {
    old?.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}

#[cfg(test)]
mod tests;
