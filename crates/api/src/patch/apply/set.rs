//! Sets of field paths, in the form in which managed fields hold them (`FieldsV1`).
//!
//! A path element is kept as its encoded text: `f:<name>` for a field, `k:{"name":"x"}` for the item of an associative
//! list, `v:"x"` for a member of a set. Comparing and nesting need no more, and encoding moves the strings.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A set of paths, as a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(pub BTreeMap<String, Node>);

/// What a set holds at one path element: the path itself, paths below it, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    pub member: bool,
    pub children: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

/// Deeper than any object can be that came through the JSON decoder.
const MAX_DEPTH: usize = 200;

impl Set {
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the path of one element to this level.
    pub fn insert(&mut self, element: String) {
        self.0.entry(element).or_default().member = true;
    }

    /// Adds an element, if it is a `member`, and paths below it.
    pub fn add(&mut self, element: String, member: bool, children: Set) {
        if member || !children.is_empty() {
            let node = self.0.entry(element).or_default();
            node.member |= member;
            node.children.merge(children);
        }
    }

    /// Whether the element itself is in the set.
    pub fn has(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// What is below an element.
    pub fn below(&self, element: &str) -> Option<&Set> {
        self.0.get(element).map(|node| &node.children).filter(|children| !children.is_empty())
    }

    /// Union, in place.
    pub fn merge(&mut self, other: Set) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for (element, node) in other.0 {
            let mine = self.0.entry(element).or_default();
            mine.member |= node.member;
            mine.children.merge(node.children);
        }
    }

    pub fn intersection(&self, other: &Set) -> Set {
        let mut out = Set::new();
        for (element, node) in &self.0 {
            if let Some(theirs) = other.0.get(element) {
                let both = Node {
                    member: node.member && theirs.member,
                    children: node.children.intersection(&theirs.children),
                };
                if !both.is_empty() {
                    out.0.insert(element.clone(), both);
                }
            }
        }
        out
    }

    /// Takes the paths of another set out of this one; paths below them stay.
    pub fn subtract(&mut self, other: &Set) {
        for (element, theirs) in &other.0 {
            let Some(node) = self.0.get_mut(element) else { continue };
            node.member &= !theirs.member;
            node.children.subtract(&theirs.children);
            if node.is_empty() {
                self.0.remove(element);
            }
        }
    }

    pub fn difference(&self, other: &Set) -> Set {
        let mut out = self.clone();
        out.subtract(other);
        out
    }

    /// Calls `visit` with each path, as the list of its elements.
    pub fn for_each<'a>(&'a self, prefix: &mut Vec<&'a str>, visit: &mut impl FnMut(&[&'a str])) {
        for (element, node) in &self.0 {
            prefix.push(element);
            if node.member {
                visit(prefix);
            }
            node.children.for_each(prefix, visit);
            prefix.pop();
        }
    }

    /// The `fieldsV1` value.
    pub fn into_fields_v1(self) -> Value {
        Value::Object(self.into_map(false))
    }

    fn into_map(self, member: bool) -> Map<String, Value> {
        // The dot sorts before all elements, so that the map is built in order.
        let dot = (member && !self.is_empty()).then(|| (".".to_owned(), Value::Object(Map::new())));
        let below = self
            .0
            .into_iter()
            .map(|(element, node)| (element, Value::Object(node.children.into_map(node.member))));
        dot.into_iter().chain(below).collect()
    }

    /// Reads a `fieldsV1` value; `None` when it is not one.
    pub fn from_fields_v1(fields: &Value) -> Option<Set> {
        Self::read(fields.as_object()?, 0)
    }

    fn read(fields: &Map<String, Value>, depth: usize) -> Option<Set> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut out = Set::new();
        for (element, below) in fields {
            if element == "." {
                continue;
            }
            let below = below.as_object()?;
            let children = Self::read(below, depth + 1)?;
            let member = below.is_empty() || below.contains_key(".");
            let node = Node { member, children };
            if !node.is_empty() {
                out.0.insert(canonical(element)?, node);
            }
        }
        Some(out)
    }

    /// Whether a `fieldsV1` value holds any path of this set; costs no more than this set's size.
    pub fn touches(&self, fields: &Value) -> bool {
        self.0.iter().any(|(element, node)| {
            fields.get(element).is_some_and(|theirs| {
                let member = theirs.as_object().is_some_and(|m| m.is_empty() || m.contains_key("."));
                (node.member && member) || node.children.touches(theirs)
            })
        })
    }
}

/// The element of a field.
pub fn field(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push_str("f:");
    out.push_str(name);
    out
}

/// An element as this module writes it: keys sorted, no spaces. `None` when it is of no known sort.
fn canonical(element: &str) -> Option<String> {
    match element.split_at_checked(2)? {
        ("f:", _) => Some(element.to_owned()),
        ("i:", index) => index.parse::<i64>().ok().map(|_| element.to_owned()),
        (sort @ ("k:" | "v:"), json) => {
            let value: Value = serde_json::from_str(json).ok()?;
            if sort == "k:" && !value.is_object() {
                return None;
            }
            Some(format!("{sort}{value}"))
        }
        _ => None,
    }
}

/// A path as messages show it: `.spec.containers[name="x"].args[="a"]`.
pub fn display(path: &[&str]) -> String {
    let mut out = String::new();
    for element in path {
        let Some((sort, rest)) = element.split_at_checked(2) else { continue };
        match sort {
            "f:" => {
                out.push('.');
                out.push_str(rest);
            }
            "k:" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                out.push_str(&format!("[{}]", keys.join(",")));
            }
            "v:" => out.push_str(&format!("[={rest}]")),
            _ => out.push_str(&format!("[{rest}]")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(fields: Value) -> Set {
        Set::from_fields_v1(&fields).unwrap()
    }

    #[test]
    fn read_and_written() {
        let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:image": {}}},
            "f:finalizers": {"v:\"a\"": {}}}});
        assert_eq!(set(fields.clone()).into_fields_v1(), fields);
        assert_eq!(
            set(json!({"k:{ \"b\":1, \"a\":2}": {}})).into_fields_v1(),
            json!({"k:{\"a\":2,\"b\":1}": {}})
        );
        for bad in [
            json!([]),
            json!({"x": {}}),
            json!({"f:a": 1}),
            json!({"k:{": {}}),
            json!({"é": {}}),
            json!({"k:1": {}}),
        ] {
            assert_eq!(Set::from_fields_v1(&bad), None, "{bad}");
        }
    }

    #[test]
    fn algebra() {
        let a = set(json!({"f:x": {".": {}, "f:y": {}}, "f:z": {}}));
        let b = set(json!({"f:x": {"f:y": {}}, "f:w": {}}));
        assert_eq!(a.intersection(&b), set(json!({"f:x": {"f:y": {}}})));
        assert_eq!(a.difference(&b), set(json!({"f:x": {}, "f:z": {}})));
        assert_eq!(b.difference(&a), set(json!({"f:w": {}})));
        let mut union = a.clone();
        union.merge(b.clone());
        assert_eq!(union, set(json!({"f:x": {".": {}, "f:y": {}}, "f:z": {}, "f:w": {}})));
        assert!(b.touches(&a.clone().into_fields_v1()));
        assert!(!set(json!({"f:w": {}})).touches(&a.into_fields_v1()));
    }

    #[test]
    fn paths_are_shown() {
        let path = [
            "f:spec",
            "f:containers",
            "k:{\"name\":\"x\"}",
            "f:ports",
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}",
        ];
        assert_eq!(display(&path), ".spec.containers[name=\"x\"].ports[containerPort=80,protocol=\"TCP\"]");
        assert_eq!(display(&["f:metadata", "f:finalizers", "v:\"a\""]), ".metadata.finalizers[=\"a\"]");
    }
}
