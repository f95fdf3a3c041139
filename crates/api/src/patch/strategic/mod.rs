//! Strategic merge patch: a merge patch that knows which lists are merged item by item, and by which key.
//!
//! What `kubectl apply`, `edit`, `set` and `patch` send for built-in kinds. Patch strategies and merge keys come from the
//! schema; the patch may also carry directives:
//!
//! - `$patch: replace | delete | merge` in an object or list item,
//! - `$retainKeys` (the only keys to be left in a union, such as a volume),
//! - `$setElementOrder/<field>` (the order of a merged list),
//! - `$deleteFromPrimitiveList/<field>` (members to take out of a set of scalars).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::PatchError;
use crate::field::GoValue;
use crate::schema::{Field, Schema, builtin};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// The document with the patch merged in. Only for built-in kinds: others have no patch strategies.
pub fn strategic_merge(document: &Value, patch: &Value, schema: &Schema) -> Result<Value, PatchError> {
    if !builtin::definitions().iter().any(|d| std::ptr::eq(&d.schema, schema)) {
        return Err(PatchError::StrategicUnsupported);
    }
    let Value::Object(patch) = patch else {
        return Err(malformed("a strategic merge patch must be a JSON object"));
    };
    let mut out = match document {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    merge_map(&mut out, patch, Some(schema))?;
    Ok(Value::Object(out))
}

fn malformed(why: impl Into<String>) -> PatchError {
    PatchError::Malformed(why.into())
}

fn inconsistent(why: impl Into<String>) -> PatchError {
    PatchError::Inconsistent(why.into())
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(ORDER) || key.starts_with(DELETE_PRIMITIVES)
}

fn merge_map(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    schema: Option<&Schema>,
) -> Result<(), PatchError> {
    match patch.get(PATCH) {
        None => {}
        Some(directive) if directive == "replace" => {
            *target = cleaned_map(patch);
            return Ok(());
        }
        Some(directive) if directive == "delete" => {
            target.clear();
            return Ok(());
        }
        Some(other) => return Err(unknown_directive(other, patch)),
    }
    if let Some(retain) = patch.get(RETAIN_KEYS) {
        retain_keys(target, patch, retain)?;
    }
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(DELETE_PRIMITIVES) {
            delete_primitives(target, name, value)?;
        } else if !is_directive(key) {
            let order = match patch.get(&format!("{ORDER}{key}")) {
                Some(order) => Some(elements(order)?),
                None => None,
            };
            merge_member(target, key, value, order, schema)?;
        }
    }
    // Orders of lists that the patch does not change otherwise.
    for (key, order) in patch {
        let Some(name) = key.strip_prefix(ORDER).filter(|name| !patch.contains_key(*name)) else { continue };
        let order = elements(order)?;
        if let Some(schema) = schema
            && schema.child(name).is_none()
        {
            let kind = schema.type_name();
            let why = format!("unable to find api field in struct {kind} for the json field {name:?}");
            return Err(inconsistent(why));
        }
        let Some(list) = target.get_mut(name) else { continue };
        elements(list)?;
        if let Value::Array(items) = list {
            let merge_key = field(schema, name).and_then(|f| f.patch_merge_key.as_deref());
            if merge_key.is_some()
                && let Some(index) = order.iter().position(|item| !item.is_object())
            {
                return Err(inconsistent(format!("value for key {index} is not a map")));
            }
            keyed(order, merge_key)?;
            let original = items.clone();
            set_order(items, order, &original, merge_key);
        }
    }
    Ok(())
}

fn field<'a>(schema: Option<&'a Schema>, name: &str) -> Option<&'a Field> {
    schema.and_then(|s| s.field(name))
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> PatchError {
    let patch = Value::Object(patch.clone());
    inconsistent(format!("unknown patch type: {} in map: {}", GoValue(directive), GoValue(&patch)))
}

/// The list that a directive brings.
fn elements(value: &Value) -> Result<&[Value], PatchError> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| {
        inconsistent(format!("expected a []interface {{}}, but received a {}", go_type(value)))
    })
}

/// What Go's decoder makes of a JSON value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Whether all items, if they have one, have a merge key.
fn keyed(items: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    let Some(merge_key) = merge_key else { return Ok(()) };
    match items.iter().find(|item| item.get(merge_key).is_none()) {
        None => Ok(()),
        Some(item) => Err(inconsistent(format!(
            "map: {} does not contain declared merge key: {merge_key}",
            GoValue(item)
        ))),
    }
}

/// Whether items of two lists are all of one type: nothing else can be merged.
fn alike(items: &[Value], patch: &[Value]) -> Result<(), PatchError> {
    let mut types = items.iter().chain(patch).map(go_type);
    let first = types.next();
    if types.all(|other| Some(other) == first) && !patch.iter().any(Value::is_null) {
        return Ok(());
    }
    let lists = Value::Array(vec![Value::from(items), Value::from(patch)]);
    Err(inconsistent(format!("list element types are not identical: {}", GoValue(&lists))))
}

fn retain_keys(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    retain: &Value,
) -> Result<(), PatchError> {
    let unfit = || malformed("invalid patch format of retainKeys");
    let retain = retain.as_array().ok_or_else(unfit)?;
    let retained = |key: &str| retain.iter().any(|k| k.as_str() == Some(key));
    if patch.iter().any(|(k, v)| !is_directive(k) && !v.is_null() && !retained(k)) {
        return Err(unfit());
    }
    target.retain(|key, _| retained(key));
    Ok(())
}

fn delete_primitives(target: &mut Map<String, Value>, name: &str, gone: &Value) -> Result<(), PatchError> {
    let gone = elements(gone)?;
    if let Some(Value::Array(items)) = target.get_mut(name) {
        alike(items, gone)?;
        let gone: HashMap<String, ()> = gone.iter().map(|v| (v.to_string(), ())).collect();
        items.retain(|item| !gone.contains_key(&item.to_string()));
    }
    Ok(())
}

fn merge_member(
    target: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    order: Option<&[Value]>,
    schema: Option<&Schema>,
) -> Result<(), PatchError> {
    if value.is_null() {
        target.remove(key);
        return Ok(());
    }
    let field = field(schema, key);
    let child = schema.and_then(|s| s.child(key));
    match (target.get_mut(key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => merge_map(old, new, child),
        (Some(Value::Array(old)), Value::Array(new)) => {
            let Some(field) = field.filter(|f| f.patch_merge) else {
                *old = cleaned_list(new);
                return Ok(());
            };
            let merge_key = field.patch_merge_key.as_deref();
            merge_list(old, new, order, merge_key, child.and_then(Schema::items))
        }
        _ => {
            target.insert(key.to_owned(), cleaned(value));
            Ok(())
        }
    }
}

fn merge_list(
    items: &mut Vec<Value>,
    patch: &[Value],
    order: Option<&[Value]>,
    merge_key: Option<&str>,
    schema: Option<&Schema>,
) -> Result<(), PatchError> {
    alike(items, patch)?;
    let original = items.clone();
    let mut patched: Vec<Value> = Vec::new();
    if let Some(merge_key) = merge_key {
        let directives = list_directives(patch)?;
        if directives.contains(&Directive::Replace) {
            *items = cleaned_list(patch);
            return Ok(());
        }
        keyed(items, Some(merge_key))?;
        keyed(patch, Some(merge_key))?;
        let mut positions = positions(items, Some(merge_key));
        let mut deleted = vec![false; items.len()];
        for (item, directive) in patch.iter().zip(directives) {
            let Value::Object(map) = item else { continue };
            let identity = identity(item, Some(merge_key));
            let position = positions.get(&identity).copied();
            match directive {
                Directive::Delete => {
                    if let Some(slot) = position.and_then(|i| deleted.get_mut(i)) {
                        *slot = true;
                        positions.remove(&identity);
                    }
                }
                Directive::Replace | Directive::Merge => {
                    patched.push(item.clone());
                    if let Some(Value::Object(old)) = position.and_then(|i| items.get_mut(i)) {
                        merge_map(old, map, schema)?;
                    } else {
                        positions.insert(identity, items.len());
                        items.push(Value::Object(cleaned_map(map)));
                    }
                }
            }
        }
        let mut gone = deleted.into_iter();
        items.retain(|_| !gone.next().unwrap_or(false));
    } else {
        if patch.iter().any(|v| v.is_object() || v.is_array()) {
            return Err(inconsistent("cannot merge lists without merge key"));
        }
        let mut seen = positions(items, None);
        for item in patch {
            patched.push(item.clone());
            if seen.insert(item.to_string(), 0).is_none() {
                items.push(item.clone());
            }
        }
    }
    let order = match order {
        Some(order) if !order.is_empty() => {
            in_order(&patched, order, merge_key)?;
            order
        }
        _ => &patched,
    };
    set_order(items, order, &original, merge_key);
    Ok(())
}

/// What is to be done with an item of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Delete,
    /// Its list takes the place of the other one.
    Replace,
}

fn list_directives(patch: &[Value]) -> Result<Vec<Directive>, PatchError> {
    let directive = |item: &Value| {
        let Value::Object(map) = item else { return Ok(Directive::Merge) };
        match map.get(PATCH) {
            None => Ok(Directive::Merge),
            Some(directive) if directive == "delete" => Ok(Directive::Delete),
            Some(directive) if directive == "replace" => Ok(Directive::Replace),
            Some(directive) if directive == "merge" => {
                Err(inconsistent("merging lists cannot yet be specified in the patch"))
            }
            Some(other) => Err(unknown_directive(other, map)),
        }
    };
    patch.iter().map(directive).collect()
}

/// Whether an order has all items of the patch, in their order.
fn in_order(patched: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    if merge_key.is_some()
        && let Some(item) = order.iter().find(|item| !item.is_object())
    {
        let found = go_type(item);
        return Err(inconsistent(format!("expected a map[string]interface {{}}, but received a {found}")));
    }
    keyed(order, merge_key)?;
    let mut rest = order.iter().map(|item| identity(item, merge_key));
    if patched.iter().all(|item| rest.any(|next| next == identity(item, merge_key))) {
        return Ok(());
    }
    let (patched, order) = (Value::from(patched), Value::from(order));
    Err(inconsistent(format!(
        "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
        GoValue(&patched),
        GoValue(&order)
    )))
}

/// What tells one item from another: its merge key, or itself.
fn identity(item: &Value, merge_key: Option<&str>) -> String {
    match merge_key {
        Some(key) => item.get(key).unwrap_or(&Value::Null).to_string(),
        None => item.to_string(),
    }
}

fn positions(items: &[Value], merge_key: Option<&str>) -> HashMap<String, usize> {
    items.iter().enumerate().map(|(i, item)| (identity(item, merge_key), i)).collect()
}

/// Brings the items that `order` names into its order; the others keep their place relative to those they were
/// before in the `original` list.
fn set_order(items: &mut Vec<Value>, order: &[Value], original: &[Value], merge_key: Option<&str>) {
    let wanted = positions(order, merge_key);
    let server = positions(original, merge_key);
    let mut ordered = Vec::new();
    let mut others = Vec::new();
    for item in items.drain(..) {
        let id = identity(&item, merge_key);
        let before = server.get(&id).copied();
        match wanted.get(&id) {
            Some(position) => ordered.push((*position, before, item)),
            None => others.push((before, item)),
        }
    }
    ordered.sort_by_key(|(position, _, _)| *position);
    others.sort_by_key(|(before, _)| *before);
    let mut ordered = ordered.into_iter().peekable();
    for (before, item) in others {
        let stays_behind = |at: &Option<usize>| !matches!((before, at), (Some(b), Some(a)) if b < *a);
        while let Some((_, _, next)) = ordered.next_if(|(_, at, _)| stays_behind(at)) {
            items.push(next);
        }
        items.push(item);
    }
    items.extend(ordered.map(|(_, _, item)| item));
}

/// A patch value that has nothing to merge with: without nulls and directives.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(cleaned_map(map)),
        Value::Array(items) => Value::Array(cleaned_list(items)),
        other => other.clone(),
    }
}

fn cleaned_map(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter()
        .filter(|(k, v)| !is_directive(k) && !v.is_null())
        .map(|(k, v)| (k.clone(), cleaned(v)))
        .collect()
}

fn cleaned_list(items: &[Value]) -> Vec<Value> {
    items
        .iter()
        .filter(|item| !matches!(item.get(PATCH).and_then(Value::as_str), Some("delete" | "replace")))
        .map(cleaned)
        .collect()
}

#[cfg(test)]
mod tests;
