//! JSON merge patch (RFC 7386): objects are merged key by key, `null` removes, everything else replaces.

use super::PatchError;
use serde_json::{Map, Value};

/// The document with the patch merged in. An array takes its place.
pub fn merge_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() && !patch.is_array() {
        return Err(PatchError::Malformed(
            "error decoding patch: a merge patch must be a JSON object".into(),
        ));
    }
    let mut out = document.clone();
    merge(&mut out, patch);
    Ok(out)
}

/// Merges in place. The depth is bounded by that of the patch, which the decoder bounds.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_rfc_7386() {
        #[track_caller]
        fn check(document: Value, patch: Value, want: Value) {
            assert_eq!(merge_patch(&document, &patch), Ok(want));
        }
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b"}), json!({"a": null}), json!({}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]}));
        check(json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}}));
        check(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}));
        check(json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
        check(json!({"a": "b"}), json!(["c"]), json!(["c"]));
        assert!(merge_patch(&json!({}), &json!(1)).is_err());
    }
}
