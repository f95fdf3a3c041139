//! JSON patch (RFC 6902), with the limits and the error wording that Kubernetes users know.
//!
//! Two things differ from the RFC, as upstream: negative array indices count from the end, and testing a missing member
//! for `null` succeeds. The number of operations and the bytes that `copy` may multiply are bounded.

use super::PatchError;
use serde_json::Value;

const MAX_OPERATIONS: usize = 10_000;
/// As much as a whole request may bring.
const MAX_COPIED_BYTES: usize = 3 << 20;

/// The document with the operations applied, all or none.
pub fn json_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Malformed(
            "error decoding patch: a JSON patch must be an array of operations".into(),
        ));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    operations.iter().try_for_each(readable)?;
    let mut out = document.clone();
    let mut copied = 0;
    for operation in operations {
        apply(&mut out, operation, &mut copied)?;
    }
    Ok(out)
}

fn malformed(why: String) -> PatchError {
    PatchError::Malformed(format!("error decoding patch: {why}"))
}

/// Whether an operation has what its kind needs. All are looked at before any is carried out.
fn readable(operation: &Value) -> Result<(), PatchError> {
    let wrong = |why: &str| Err(PatchError::Malformed(format!("invalid operation {operation}: {why}")));
    let value = match operation.get("op").and_then(Value::as_str) {
        Some("add" | "replace" | "test") => true,
        Some("remove" | "move" | "copy") => false,
        _ => return wrong("unsupported operation"),
    };
    if operation.get("path").and_then(Value::as_str).is_none() {
        return wrong("failed to decode 'path': operation missing path field: missing value");
    }
    if value && operation.get("value").is_none() {
        return wrong("failed to decode 'value': operation, missing value field: missing value");
    }
    Ok(())
}

fn text<'a>(operation: &'a Value, member: &str) -> Result<&'a str, PatchError> {
    operation
        .get(member)
        .and_then(Value::as_str)
        .ok_or_else(|| malformed(format!("operation {operation} has no string member \"{member}\"")))
}

fn apply(document: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), PatchError> {
    let kind = text(operation, "op")?;
    let path = text(operation, "path")?;
    let pointer = parse(path)?;
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    let missing = |path: &str| {
        PatchError::DoesNotApply(format!(
            "jsonpatch {kind} operation does not apply: doc is missing path: \"{path}\": missing value"
        ))
    };
    match kind {
        "add" => add(document, &pointer, value()).ok_or_else(|| missing(path)),
        "remove" => remove(document, &pointer).map(drop).ok_or_else(|| missing(path)),
        // As upstream: what is no container takes nobody's place, and nobody is told.
        "replace" if pointer.is_empty() && !(value().is_object() || value().is_array()) => Ok(()),
        "replace" => {
            *find_mut(document, &pointer).ok_or_else(|| missing(path))? = value();
            Ok(())
        }
        "test" => {
            let wanted = operation.get("value").unwrap_or(&Value::Null);
            let found = find_mut(document, &pointer);
            if found.as_deref().unwrap_or(&Value::Null) == wanted {
                Ok(())
            } else {
                Err(PatchError::TestFailed(path.to_owned()))
            }
        }
        "move" => {
            let from = text(operation, "from")?;
            let source = parse(from)?;
            if pointer.len() > source.len() && pointer.starts_with(&source) {
                return Err(PatchError::DoesNotApply(format!(
                    "jsonpatch move operation does not apply: \"{path}\" is inside \"{from}\""
                )));
            }
            let moved = remove(document, &source).ok_or_else(|| missing(from))?;
            add(document, &pointer, moved).ok_or_else(|| missing(path))
        }
        "copy" => {
            let from = text(operation, "from")?;
            let found = find_mut(document, &parse(from)?).ok_or_else(|| missing(from))?.clone();
            *copied = copied.saturating_add(size(&found));
            if *copied > MAX_COPIED_BYTES {
                return Err(PatchError::TooLarge(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
                )));
            }
            add(document, &pointer, found).ok_or_else(|| missing(path))
        }
        other => Err(malformed(format!("Unexpected kind: {other}"))),
    }
}

/// Roughly the bytes of the value as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::String(s) => s.len() + 2,
        Value::Array(items) => items.iter().map(|v| size(v) + 1).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(k, v)| k.len() + 4 + size(v)).sum::<usize>() + 2,
        _ => 8,
    }
}

/// The unescaped tokens of a JSON pointer.
fn parse(pointer: &str) -> Result<Vec<String>, PatchError> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let rest = pointer
        .strip_prefix('/')
        .ok_or_else(|| PatchError::DoesNotApply(format!("path \"{pointer}\" does not start with '/'")))?;
    Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

/// The index that a token means in an array of this length; `len` itself only where an item may be added.
fn index(token: &str, len: usize, adding: bool) -> Option<usize> {
    if adding && token == "-" {
        return Some(len);
    }
    let end = if adding { len } else { len.checked_sub(1)? };
    if let Some(back) = token.strip_prefix('-') {
        return len.checked_sub(back.parse().ok()?).filter(|i| *i <= end);
    }
    token.parse().ok().filter(|i| *i <= end)
}

fn find_mut<'a>(document: &'a mut Value, pointer: &[String]) -> Option<&'a mut Value> {
    pointer.iter().try_fold(document, |value, token| match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(items) => {
            let i = index(token, items.len(), false)?;
            items.get_mut(i)
        }
        _ => None,
    })
}

fn add(document: &mut Value, pointer: &[String], value: Value) -> Option<()> {
    // Only `replace` reaches the document itself.
    let (last, parents) = pointer.split_last()?;
    match find_mut(document, parents)? {
        Value::Object(map) => {
            map.insert(last.clone(), value);
        }
        Value::Array(items) => {
            let i = index(last, items.len(), true)?;
            items.insert(i, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, pointer: &[String]) -> Option<Value> {
    let (last, parents) = pointer.split_last()?;
    match find_mut(document, parents)? {
        Value::Object(map) => map.remove(last),
        Value::Array(items) => {
            let i = index(last, items.len(), false)?;
            Some(items.remove(i))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations() {
        #[track_caller]
        fn check(document: Value, patch: Value, want: Value) {
            assert_eq!(json_patch(&document, &patch), Ok(want), "{patch}");
        }
        let op = |op: &str, path: &str, value: Value| json!([{"op": op, "path": path, "value": value}]);
        check(json!({"a": 1}), op("add", "/b", json!(2)), json!({"a": 1, "b": 2}));
        check(json!({"a": [1, 3]}), op("add", "/a/1", json!(2)), json!({"a": [1, 2, 3]}));
        check(json!({"a": [1]}), op("add", "/a/-", json!(2)), json!({"a": [1, 2]}));
        check(json!({"a": [1, 2]}), op("add", "/a/-1", json!(9)), json!({"a": [1, 9, 2]}));
        check(json!({"a": [1, 2]}), op("remove", "/a/-1", json!(null)), json!({"a": [1]}));
        check(json!({"a": [1, 2]}), op("remove", "/a/0", json!(null)), json!({"a": [2]}));
        check(json!({"a": 1}), op("replace", "/a", json!({"b": 2})), json!({"a": {"b": 2}}));
        check(json!({"a/b": {"~": 1}}), op("replace", "/a~1b/~0", json!(2)), json!({"a/b": {"~": 2}}));
        check(json!({"a": 1}), op("test", "/a", json!(1)), json!({"a": 1}));
        check(json!({"a": 1}), op("test", "/b", json!(null)), json!({"a": 1}));
        check(json!({"a": 1}), op("replace", "", json!({"z": 0})), json!({"z": 0}));
        check(json!({"a": 1}), op("replace", "", json!([])), json!([]));
        check(json!({"a": 1}), op("replace", "", json!("x")), json!({"a": 1}));
        let two = |op: &str, from: &str, path: &str| json!([{"op": op, "from": from, "path": path}]);
        check(json!({"a": 1}), two("move", "/a", "/b"), json!({"b": 1}));
        check(json!({"a": [1, 2]}), two("move", "/a/0", "/a/-"), json!({"a": [2, 1]}));
        check(json!({"a": {"x": 1}}), two("copy", "/a", "/b"), json!({"a": {"x": 1}, "b": {"x": 1}}));
        check(json!({"a": 1}), json!([]), json!({"a": 1}));
    }

    #[test]
    fn failures_say_what_does_not_apply() {
        #[track_caller]
        fn check(patch: Value, want: &str) {
            let document = json!({"a": [1], "o": {"x": 1}});
            assert_eq!(json_patch(&document, &patch).unwrap_err().to_string(), want, "{patch}");
        }
        check(
            json!([{"op": "remove", "path": "/zz"}]),
            "jsonpatch remove operation does not apply: doc is missing path: \"/zz\": missing value",
        );
        check(
            json!([{"op": "add", "path": "", "value": {}}]),
            "jsonpatch add operation does not apply: doc is missing path: \"\": missing value",
        );
        check(
            json!([{"op": "add", "path": "/a/3", "value": 1}]),
            "jsonpatch add operation does not apply: doc is missing path: \"/a/3\": missing value",
        );
        check(
            json!([{"op": "replace", "path": "/a/-2", "value": 1}]),
            "jsonpatch replace operation does not apply: doc is missing path: \"/a/-2\": missing value",
        );
        check(json!([{"op": "test", "path": "/a", "value": 2}]), "testing value /a failed: test failed");
        check(
            json!([{"op": "frob", "path": "/a"}]),
            "invalid operation {\"op\":\"frob\",\"path\":\"/a\"}: unsupported operation",
        );
        check(
            // Told before the first one is tried.
            json!([{"op": "remove", "path": "/zz"}, {"op": "add", "path": "/a"}]),
            "invalid operation {\"op\":\"add\",\"path\":\"/a\"}: failed to decode 'value': operation, missing value \
             field: missing value",
        );
        check(
            json!([{"op": "remove"}]),
            "invalid operation {\"op\":\"remove\"}: failed to decode 'path': operation missing path field: missing value",
        );
        check(json!({"op": "add"}), "error decoding patch: a JSON patch must be an array of operations");
        check(
            json!([{"op": "move", "from": "/o", "path": "/o/y"}]),
            "jsonpatch move operation does not apply: \"/o/y\" is inside \"/o\"",
        );
    }

    #[test]
    fn growth_is_bounded() {
        let many: Vec<Value> =
            (0..=MAX_OPERATIONS).map(|_| json!({"op": "test", "path": "/a", "value": 1})).collect();
        assert!(matches!(json_patch(&json!({"a": 1}), &json!(many)), Err(PatchError::TooLarge(_))));
        let doubling: Vec<Value> =
            (0..64).map(|i| json!({"op": "copy", "from": "", "path": format!("/{i}")})).collect();
        assert!(matches!(json_patch(&json!({"a": 1}), &json!(doubling)), Err(PatchError::TooLarge(_))));
    }
}
