//! Taking away what a manager applied before, applies no longer, and nobody else owns.

use super::set::Set;
use super::typed::{Paths, paths, remove, with_named_members};
use crate::schema::Schema;
use serde_json::{Map, Value};

/// `last` is what the manager owned by its previous apply, `owned` what everybody owns now, this manager included.
pub fn prune(merged: Value, schema: Option<&Schema>, last: &Set, owned: &Set) -> Value {
    if last.is_empty() {
        return merged;
    }
    let all = |value: &Value| {
        let set = paths(value, schema, Paths::Applied).unwrap_or_default();
        with_named_members(&set, schema)
    };
    let without = |gone: &Set, kept: Option<&Set>| {
        remove(&merged, schema, gone, kept).unwrap_or_else(|| Value::Object(Map::new()))
    };
    let last = with_named_members(last, schema);

    // All that was applied last, with everything below it, is gone at first ...
    let everything = all(&merged);
    let mut kept = all(&without(&last, None));
    // ... then what somebody owns comes back ...
    kept.merge(with_named_members(owned, schema));
    let kept = all(&without(&everything.difference(&kept), None));
    // ... and what went only because it was below something that was applied last, but was not itself.
    let gone = everything.difference(&kept).intersection(&last);
    if gone.is_empty() {
        return merged;
    }
    without(&gone, Some(owned))
}
