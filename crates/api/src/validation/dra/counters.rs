//! Counters that the devices of a pool share: how much there is, and how much of it a device takes.

use super::{at_most, label};
use crate::field::{FieldErrors, Path};
use crate::validation::names;
use crate::validation::read::{invalid_if, is_empty, items, members, quantity, text};
use serde_json::{Value, json};
use std::collections::HashSet;

const MAX_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const MAX_CONSUMED: usize = 2;

/// The sets of a slice.
pub fn shared(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, MAX_SETS, path, errors);
    sets(list, "name", path, errors);
}

/// What a device takes of them.
pub fn consumed(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, MAX_CONSUMED, path, errors);
    sets(list, "counterSet", path, errors);
}

fn sets(list: &Value, name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (i, set) in items(list).iter().enumerate() {
        let path = path.index(i);
        label(&set[name], &path.child(name), errors);
        if !seen.insert(text(&set[name])) {
            errors.duplicate(&path.child(name), set[name].clone());
        }
        counters(&set["counters"], &path.child("counters"), errors);
    }
}

fn counters(counters: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if is_empty(counters) {
        errors.required(path, "");
    }
    let count = members(counters).count();
    if count > MAX_COUNTERS {
        errors.too_many(path, count, MAX_COUNTERS);
    }
    for (name, counter) in members(counters) {
        invalid_if(names::dns1123_label(name), &json!(name), path, errors);
        quantity(&counter["value"], &path.key(name).child("value"), errors);
    }
}
