//! Values seen through their schema: which parts are owned one by one, and by which path element.

use super::set::{Node, Set, field};
use crate::schema::{List, ListType, Opaque, Schema, SchemaRef, Shape};
use serde_json::{Map, Value};

/// A value as ownership sees it.
pub enum View<'v> {
    /// Owned as a whole: scalars, atomic lists and maps, and whatever does not fit its schema.
    Leaf,
    /// A struct or map, owned member by member.
    Map(&'v Map<String, Value>),
    /// An associative list or a set, owned item by item.
    List(&'v [Value]),
}

/// The list type, where items of this list are owned one by one.
pub fn associative(schema: Option<&Schema>) -> Option<&List> {
    match &schema?.shape {
        Shape::List(list) if list.list_type != ListType::Atomic => Some(list),
        _ => None,
    }
}

fn granular_map(schema: Option<&Schema>) -> bool {
    match schema.map(|s| &s.shape) {
        // Without a schema (unknown fields of custom resources) maps are taken apart and lists are not.
        None | Some(Shape::Any(Opaque::Json)) => true,
        Some(Shape::Object(object)) => !object.atomic,
        Some(Shape::Map(map)) => !map.atomic,
        Some(_) => false,
    }
}

pub fn view<'v>(value: &'v Value, schema: Option<&Schema>) -> View<'v> {
    match value {
        Value::Object(map) if granular_map(schema) => View::Map(map),
        Value::Array(items) if associative(schema).is_some() => View::List(items),
        _ => View::Leaf,
    }
}

pub fn child<'s>(schema: Option<&'s Schema>, key: &str) -> Option<&'s Schema> {
    schema.and_then(|s| s.child(key))
}

/// A field of a struct, as opposed to an entry of a map.
pub fn is_named(schema: Option<&Schema>, key: &str) -> bool {
    schema.is_some_and(|s| s.field(key).is_some())
}

/// The schema below a path element.
pub fn below<'s>(schema: Option<&'s Schema>, element: &str) -> Option<&'s Schema> {
    match element.strip_prefix("f:") {
        Some(name) => child(schema, name),
        None => associative(schema).map(|list| &*list.items),
    }
}

/// The path element of a list item; `None` for one without any of the keys.
pub fn element(list: &List, item: &Value) -> Option<String> {
    let keys = match &list.list_type {
        ListType::Map(keys) => keys,
        ListType::Set if !item.is_object() && !item.is_array() => return Some(format!("v:{item}")),
        _ => return None,
    };
    let of = |key: &str| {
        let given = item.get(key).filter(|v| !v.is_null());
        given.or_else(|| list.items.field(key).and_then(|f| f.default.as_deref()))
    };
    if !item.is_object() {
        return None;
    }
    if let [key] = keys.as_slice() {
        // The common case, without building a map.
        return of(key).map(|value| format!("k:{{{}:{value}}}", crate::field::quote(key)));
    }
    let map: Map<String, Value> = keys.iter().filter_map(|k| Some((k.to_string(), of(k)?.clone()))).collect();
    let given = keys.iter().any(|k| item.get(&**k).is_some_and(|v| !v.is_null()));
    given.then(|| format!("k:{}", Value::Object(map)))
}

/// Which paths stand for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// Those that a configuration claims: leaves, list items and map entries, but not the structs on the way.
    Applied,
    /// Every path there is, which is what appears or vanishes with the value.
    All,
    /// Those of a new object. Structs that are always there in the API's Go types do not appear with it.
    Created,
}

/// Structs that Go always has, given or not.
const EMBEDDED: [&str; 12] = [
    "metadata",
    "spec",
    "status",
    "strategy",
    "updateStrategy",
    "template",
    "jobTemplate",
    "resources",
    "loadBalancer",
    "nodeInfo",
    "daemonEndpoints",
    "rolloutStrategy",
];

/// The paths below a value; `None` for a leaf.
pub fn paths(value: &Value, schema: Option<&Schema>, which: Paths) -> Option<Set> {
    match view(value, schema) {
        View::Map(map) if !map.is_empty() => {
            // Both maps are sorted, so that this one is built without a search.
            let nodes =
                map.iter().filter_map(|(key, value)| Some((field(key), node(key, value, schema, which)?)));
            Some(Set(nodes.collect()))
        }
        View::List(items) if !items.is_empty() => {
            let list = associative(schema)?;
            let inner = if which == Paths::Created { Paths::All } else { which };
            let mut out = Set::new();
            for item in items {
                if let Some(element) = element(list, item) {
                    out.add(element, true, paths(item, Some(&list.items), inner).unwrap_or_default());
                }
            }
            Some(out)
        }
        _ => None,
    }
}

/// What stands for one member of a struct or map; `None` for a struct that is there anyway and empty.
fn node(key: &str, value: &Value, schema: Option<&Schema>, which: Paths) -> Option<Node> {
    let named = schema.and_then(|s| s.field(key));
    let child_schema = named.map(|f| &*f.schema).or_else(|| child(schema, key));
    // Of a custom object nothing is there but what is given, and its metadata.
    let embedded = which == Paths::Created
        && named.is_some_and(|f| {
            matches!(f.schema, SchemaRef::Builtin(_)) && (f.required || EMBEDDED.contains(&key))
        });
    let inner = if which == Paths::Created && !embedded { Paths::All } else { which };
    match paths(value, child_schema, inner) {
        // Whose items are claimed one by one has nothing to be claimed where there are none.
        None if which == Paths::Applied && matches!(view(value, child_schema), View::List(_)) => None,
        Some(children) => {
            let member = match which {
                Paths::Applied => named.is_none(),
                Paths::All => true,
                Paths::Created => !embedded,
            };
            (member || !children.is_empty()).then_some(Node { member, children })
        }
        None if embedded && value.as_object().is_some_and(Map::is_empty) => None,
        None => Some(Node { member: true, children: Set::new() }),
    }
}

/// The set with the structs on the way to its paths as members too.
pub fn with_named_members(set: &Set, schema: Option<&Schema>) -> Set {
    let mut out = Set::new();
    for (element, node) in &set.0 {
        let name = element.strip_prefix("f:");
        let member = node.member || (!node.children.is_empty() && name.is_some_and(|n| is_named(schema, n)));
        out.add(element.clone(), member, with_named_members(&node.children, below(schema, element)));
    }
    out
}

/// The value without the paths of a set. A container that loses all it has is kept, empty, where its own path is in
/// `kept` (`None`: everywhere), and goes with its contents elsewhere.
pub fn remove(value: &Value, schema: Option<&Schema>, gone: &Set, kept: Option<&Set>) -> Option<Value> {
    const NOTHING: &Set = &Set::new();
    // A member of this value: itself if nothing below it goes, else what is left of it.
    let member = |element: &str, value: &Value, schema: Option<&Schema>| {
        if gone.has(element) {
            return None;
        }
        let Some(below) = gone.below(element) else { return Some(value.clone()) };
        let kept_below = kept.map(|kept| kept.below(element).unwrap_or(NOTHING));
        remove(value, schema, below, kept_below).or_else(|| {
            let stays = kept.is_none_or(|kept| kept.has(element));
            stays.then(|| if value.is_array() { Value::Array(Vec::new()) } else { Value::Object(Map::new()) })
        })
    };
    match view(value, schema) {
        View::Map(map) if !map.is_empty() => {
            let left = map.iter().filter_map(|(key, value)| {
                Some((key.clone(), member(&field(key), value, child(schema, key))?))
            });
            let left: Map<String, Value> = left.collect();
            (!left.is_empty()).then_some(Value::Object(left))
        }
        View::List(items) if !items.is_empty() => {
            let list = associative(schema)?;
            let left: Vec<Value> = items
                .iter()
                .filter_map(|item| member(&element(list, item).unwrap_or_default(), item, Some(&list.items)))
                .collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        // A leaf is removed by its parent, and an empty container has nothing to lose.
        _ => Some(value.clone()),
    }
}

/// The first list that has two items with the same keys, as an error message.
pub fn duplicate(value: &Value, schema: Option<&Schema>, path: &mut Vec<String>) -> Option<String> {
    match view(value, schema) {
        View::Map(map) => map.iter().find_map(|(key, value)| {
            path.push(field(key));
            let found = duplicate(value, child(schema, key), path);
            path.pop();
            found
        }),
        View::List(items) => {
            let list = associative(schema)?;
            let shown =
                |path: &[String]| super::set::display(&path.iter().map(String::as_str).collect::<Vec<_>>());
            let mut seen = std::collections::HashSet::new();
            for (i, item) in items.iter().enumerate() {
                if item.is_null() {
                    let why = match &list.list_type {
                        ListType::Map(_) => "with keys may not have a null element",
                        _ => "without keys has an element that's an explicit null",
                    };
                    return Some(format!("{}: element {i}: associative list {why}", shown(path)));
                }
                let Some(element) = element(list, item) else {
                    let keys = match &list.list_type {
                        ListType::Map(keys) => keys.join(", "),
                        _ => return Some(format!("{}: element {i}: set items must be scalars", shown(path))),
                    };
                    return Some(format!(
                        "{}: element {i}: associative list with keys has an element that omits key field \"{keys}\"",
                        shown(path)
                    ));
                };
                if !seen.insert(element.clone()) {
                    return Some(format!(
                        "{}: duplicate entries for key {}",
                        shown(path),
                        super::set::display(&[&element])
                    ));
                }
                path.push(element);
                let found = duplicate(item, Some(&list.items), path);
                path.pop();
                if found.is_some() {
                    return found;
                }
            }
            None
        }
        View::Leaf => None,
    }
}
