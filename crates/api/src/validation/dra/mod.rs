//! Dynamic resource allocation: claims and their templates, classes of devices, what drivers publish, and what claims
//! have been given. What several of them have in common is here.

mod claim;
mod class;
mod counters;
mod device;
mod slice;
mod status;
mod taints;

pub use claim::{claim, claim_template, immutable_spec};
pub use class::class;
pub use slice::{slice, slice_update};
pub use status::claim_status;

use super::names;
use super::read::{given, invalid_if, is_empty, items, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const SPEC: Path<'static> = Path::new("spec");
const MAX_REQUESTS: usize = 32;
const MAX_CONSTRAINTS: usize = 32;
const MAX_CONFIGS: usize = 32;
const MAX_SELECTORS: usize = 32;
/// Of an expression, and of what only its driver understands.
const MAX_RAW: usize = 10 << 10;
const MAX_POOL_NAME: usize = 253;

fn at_most(list: &Value, max: usize, path: &Path<'_>, errors: &mut FieldErrors) {
    let count = items(list).len();
    if count > max {
        errors.too_many(path, count, max);
    }
}

fn label(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if text(value).is_empty() {
        errors.required(path, "");
    } else {
        invalid_if(names::dns1123_label(text(value)), value, path, errors);
    }
}

/// `driver.example.com/name`, where the driver may be left out of its own slices.
fn qualified(name: &str, with_domain: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let identifier = match name.split_once('/') {
        Some((domain, rest)) => {
            if domain.is_empty() {
                errors.required(path, "the domain must not be empty");
            } else if domain.len() > 63 {
                errors.too_long(path, 63);
            } else if let Some(problem) = names::dns1123_subdomain(domain) {
                errors.invalid(path, domain, problem);
            }
            rest
        }
        None if with_domain => {
            errors.invalid(path, name, "must include a domain");
            return;
        }
        None => name,
    };
    if identifier.is_empty() {
        errors.required(path, "the name must not be empty");
        return;
    }
    if identifier.len() > 32 {
        errors.too_long(path, 32);
    }
    let mut bytes = identifier.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        errors.invalid(path, identifier, "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')");
    }
}

/// Domains separated by slashes: a pool is often called like its node.
fn pool_name(name: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let whole = text(name);
    if whole.is_empty() {
        errors.required(path, "");
        return;
    }
    if whole.len() > MAX_POOL_NAME {
        errors.too_long(path, MAX_POOL_NAME);
    }
    for part in whole.split('/') {
        if let Some(problem) = names::dns1123_subdomain(part) {
            errors.invalid(path, part, problem);
        }
    }
}

/// What the expressions say is looked at when they are compiled, on the way into the store.
fn selectors(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, MAX_SELECTORS, path, errors);
    for (i, selector) in items(list).iter().enumerate() {
        let path = path.index(i);
        if !given(&selector["cel"]) {
            errors.required(&path.child("cel"), "");
            continue;
        }
        let path = path.child("cel");
        let path = path.child("expression");
        let expression = text(&selector["cel"]["expression"]);
        if expression.is_empty() {
            errors.required(&path, "");
        } else if expression.len() > MAX_RAW {
            errors.too_long(&path, MAX_RAW);
        }
    }
}

/// Requests as constraints, configurations and results name them: `request`, or `request/alternative`.
fn named_requests(list: &Value, known: &HashSet<String>, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, MAX_REQUESTS, path, errors);
    let mut seen = HashSet::new();
    for (i, name) in items(list).iter().enumerate() {
        let path = path.index(i);
        if !seen.insert(text(name)) {
            errors.duplicate(&path, name.clone());
        } else {
            named_request(name, known, &path, errors);
        }
    }
}

fn named_request(name: &Value, known: &HashSet<String>, path: &Path<'_>, errors: &mut FieldErrors) {
    if !known.contains(text(name)) {
        let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        errors.invalid(path, name.clone(), why);
    }
}

fn opaque(opaque: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(opaque) {
        errors.required(path, "");
        return;
    }
    super::csi::driver_name(&opaque["driver"], &path.child("driver"), errors);
    raw_object(&opaque["parameters"], true, &path.child("parameters"), errors);
}

/// An object that only a driver understands.
fn raw_object(value: &Value, needed: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    match value {
        Value::Null if needed => errors.required(path, ""),
        Value::Null => {}
        Value::Object(_) => {
            // Bytes as they are stored; those that the client has sent may have had spaces.
            if value.to_string().len() > MAX_RAW {
                errors.too_long(path, MAX_RAW);
            }
        }
        other => errors.invalid(path, other.clone(), "must be a valid JSON object"),
    }
}

/// Up to four types of conditions.
fn conditions(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    at_most(list, 4, path, errors);
    for (i, condition) in items(list).iter().enumerate() {
        invalid_if(names::qualified_name(text(condition)), condition, &path.index(i), errors);
    }
}

/// A selector that is one term.
fn one_node_term(selector: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(selector) {
        return;
    }
    super::scheduling::node_selector(selector, path, errors);
    let terms = &selector["nodeSelectorTerms"];
    if items(terms).len() > 1 {
        let why = "must have exactly one node selector term";
        errors.invalid(&path.child("nodeSelectorTerms"), terms.clone(), why);
    }
}

/// Those of `fields` that are set, where `false` and the empty string are not.
fn set_of<'a>(object: &Value, fields: &[&'a str]) -> Vec<&'a str> {
    let is_set =
        |field: &&&str| !matches!(object[**field], Value::Bool(false)) && !is_empty_text(&object[**field]);
    fields.iter().filter(is_set).copied().collect()
}

fn is_empty_text(value: &Value) -> bool {
    !given(value) || value.is_string() && is_empty(value)
}
