//! What changed between two objects, as sets of paths: one walk over both.

use super::set::{Set, field};
use super::typed::{Paths, View, associative, child, element, paths, view};
use crate::schema::Schema;
use serde_json::{Map, Value};
use std::collections::HashMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What the writer of the new object has set, and what he has taken away.
    pub fn into_written_and_removed(mut self) -> (Set, Set) {
        self.modified.merge(self.added);
        (self.modified, self.removed)
    }

    fn nest(&mut self, element: &str, inner: Changes) {
        for (mine, theirs) in [
            (&mut self.added, inner.added),
            (&mut self.modified, inner.modified),
            (&mut self.removed, inner.removed),
        ] {
            if !theirs.is_empty() {
                mine.add(element.to_owned(), false, theirs);
            }
        }
    }

    /// One member of the two values.
    fn member(
        &mut self,
        element: impl Fn() -> String,
        old: Option<&Value>,
        new: Option<&Value>,
        schema: Option<&Schema>,
    ) {
        match (old, new) {
            (Some(old), Some(new)) => match compare_values(old, new, schema) {
                Outcome::Same => {}
                Outcome::Leaf => self.modified.insert(element()),
                Outcome::Inside(inner) => self.nest(&element(), inner),
            },
            (Some(old), None) => whole(&mut self.removed, element(), old, schema),
            (None, Some(new)) => whole(&mut self.added, element(), new, schema),
            (None, None) => {}
        }
    }
}

fn whole(set: &mut Set, element: String, value: &Value, schema: Option<&Schema>) {
    set.add(element, true, paths(value, schema, Paths::All).unwrap_or_default());
}

enum Outcome {
    Same,
    /// Another value as a whole.
    Leaf,
    Inside(Changes),
}

/// The changes from one object to another.
pub fn compare(old: &Value, new: &Value, schema: Option<&Schema>) -> Changes {
    match compare_values(old, new, schema) {
        Outcome::Inside(changes) => changes,
        Outcome::Same | Outcome::Leaf => Changes::default(),
    }
}

fn compare_values(old: &Value, new: &Value, schema: Option<&Schema>) -> Outcome {
    let none = Map::new();
    let changes = match (view(old, schema), view(new, schema)) {
        (View::Map(old), View::Map(new)) => compare_maps(old, new, schema),
        (View::List(old), View::List(new)) => compare_lists(old, new, schema),
        // null is a container without members.
        (View::Map(old), View::Leaf) if new.is_null() => compare_maps(old, &none, schema),
        (View::Leaf, View::Map(new)) if old.is_null() => compare_maps(&none, new, schema),
        (View::List(old), View::Leaf) if new.is_null() => compare_lists(old, &[], schema),
        (View::Leaf, View::List(new)) if old.is_null() => compare_lists(&[], new, schema),
        _ => return if old == new { Outcome::Same } else { Outcome::Leaf },
    };
    if changes.is_empty() { Outcome::Same } else { Outcome::Inside(changes) }
}

fn compare_maps(old: &Map<String, Value>, new: &Map<String, Value>, schema: Option<&Schema>) -> Changes {
    let mut out = Changes::default();
    for (key, value) in old {
        out.member(|| field(key), Some(value), new.get(key), child(schema, key));
    }
    for (key, value) in new {
        if !old.contains_key(key) {
            out.member(|| field(key), None, Some(value), child(schema, key));
        }
    }
    out
}

fn compare_lists(old: &[Value], new: &[Value], schema: Option<&Schema>) -> Changes {
    let mut out = Changes::default();
    let Some(list) = associative(schema) else { return out };
    let items = Some(&*list.items);
    // Most lists did not change in length or order: pair by position first, and look up the rest.
    let mut rest: HashMap<String, &Value> = HashMap::new();
    let mut unpaired = Vec::new();
    for i in 0..old.len().max(new.len()) {
        let keys = |side: &[Value]| side.get(i).and_then(|item| element(list, item));
        let (a, b) = (keys(old), keys(new));
        match (a, b) {
            (Some(a), Some(b)) if a == b => out.member(|| a.clone(), old.get(i), new.get(i), items),
            (a, b) => {
                if let (Some(a), Some(item)) = (a, old.get(i)) {
                    rest.insert(a, item);
                }
                if let (Some(b), Some(item)) = (b, new.get(i)) {
                    unpaired.push((b, item));
                }
            }
        }
    }
    for (element, item) in unpaired {
        let before = rest.remove(&element);
        out.member(|| element.clone(), before, Some(item), items);
    }
    for (element, item) in rest {
        out.member(|| element.clone(), Some(item), None, items);
    }
    out
}
