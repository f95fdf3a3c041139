//! `spec.names`

use serde_json::Value;

use super::super::names::dns1035_label;
use super::super::read::{items, text};
use crate::field::{FieldErrors, Path};

pub fn check(names: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let plural = text(&names["plural"]);
    if plural.is_empty() {
        errors.required(&path.child("plural"), "");
    } else {
        lower(plural, &path.child("plural"), errors);
    }
    let singular = text(&names["singular"]);
    if singular.is_empty() {
        errors.required(&path.child("singular"), "");
    } else {
        lower(singular, &path.child("singular"), errors);
    }
    let (kind, list_kind) = (text(&names["kind"]), text(&names["listKind"]));
    if kind.is_empty() {
        errors.required(&path.child("kind"), "");
    } else {
        mixed(kind, &path.child("kind"), errors);
    }
    if list_kind.is_empty() {
        errors.required(&path.child("listKind"), "");
    } else {
        mixed(list_kind, &path.child("listKind"), errors);
    }
    for field in ["shortNames", "categories"] {
        let list = path.child(field);
        for (index, name) in items(&names[field]).iter().enumerate() {
            lower(text(name), &list.index(index), errors);
        }
    }
    if !kind.is_empty() && kind == list_kind {
        errors.invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same");
    }
}

fn lower(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(problem) = dns1035_label(name) {
        errors.invalid(path, name, problem);
    }
}

fn mixed(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(problem) = dns1035_label(&name.to_lowercase()) {
        errors.invalid(path, name, format!("may have mixed case, but should otherwise match: {problem}"));
    }
}
