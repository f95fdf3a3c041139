//! JSONPath as kubectl and printer columns have it: `.status.conditions[?(@.type=="Ready")].status`.
//!
//! Names, wildcards, indices and slices from either end, unions, recursive descent and filters of one comparison.
//! Values that are not there are no results, not errors.

mod parse;

use std::cmp::Ordering;

use serde_json::Value;

/// Results beyond this many are not looked for: `..` over a hostile object must end.
const MAX_RESULTS: usize = 10_000;

/// Not a path, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(pub String);

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Slice { start: Option<i64>, end: Option<i64>, step: usize },
    Index(i64),
    Recursive,
    Union(Vec<JsonPath>),
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    /// Without one, the left side only has to be there.
    comparison: Option<(Operator, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path such as `.spec.replicas`, with or without braces around it.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        parse::parse(text)
    }

    /// The values that the path leads to.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
                if next.len() > MAX_RESULTS {
                    break;
                }
            }
            found = next;
        }
        found
    }

    /// The first of them.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.find(value).into_iter().next()
    }
}

impl Step {
    fn follow<'v>(&self, value: &'v Value, found: &mut Vec<&'v Value>) {
        match self {
            Self::Field(name) => found.extend(value.as_object().and_then(|object| object.get(name))),
            Self::Wildcard => found.extend(children(value)),
            Self::Index(index) => {
                if let Some(items) = value.as_array() {
                    let at = from_either_end(*index, items.len());
                    found.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
                }
            }
            Self::Slice { start, end, step } => {
                if let Some(items) = value.as_array() {
                    let clamp = |at: i64| {
                        usize::try_from(from_either_end(at, items.len())).unwrap_or(0).min(items.len())
                    };
                    let (start, end) = (start.map_or(0, clamp), end.map_or(items.len(), clamp));
                    found.extend(items.iter().take(end).skip(start).step_by((*step).max(1)));
                }
            }
            Self::Recursive => descend(value, found),
            Self::Union(paths) => paths.iter().for_each(|path| found.extend(path.find(value))),
            Self::Filter(filter) => found.extend(children(value).filter(|item| filter.holds(item))),
        }
    }
}

fn from_either_end(index: i64, length: usize) -> i64 {
    if index < 0 { index.saturating_add(i64::try_from(length).unwrap_or(i64::MAX)) } else { index }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(entries) => Box::new(entries.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descend<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    if found.len() > MAX_RESULTS {
        return;
    }
    found.push(value);
    children(value).for_each(|child| descend(child, found));
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let Some(left) = self.left.value(item) else { return false };
        let Some((operator, right)) = &self.comparison else { return true };
        let Some(right) = right.value(item) else { return false };
        let Some(ordering) = compare(left, right) else { return *operator == Operator::NotEqual };
        match operator {
            Operator::Equal => ordering == Ordering::Equal,
            Operator::NotEqual => ordering != Ordering::Equal,
            Operator::Less => ordering == Ordering::Less,
            Operator::LessOrEqual => ordering != Ordering::Greater,
            Operator::Greater => ordering == Ordering::Greater,
            Operator::GreaterOrEqual => ordering != Ordering::Less,
        }
    }
}

impl Operand {
    fn value<'v>(&'v self, item: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Path(path) => path.first(item),
            Self::Literal(value) => Some(value),
        }
    }
}

/// Values of different types have no order.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        _ => None,
    }
}

/// A value as a template prints it: text as it is, objects and lists as JSON.
pub fn print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
