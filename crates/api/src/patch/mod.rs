//! The four patch types: JSON patch, merge patch, strategic merge patch and server-side apply.
//!
//! The first three are functions of the document and the patch; [`apply`] also knows who owns which field.

pub mod apply;
mod json;
mod merge;
mod strategic;

pub use json::json_patch;
pub use merge::merge_patch;
pub use strategic::strategic_merge;

use crate::status::{Status, StatusCause};

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed.
    #[error("{0}")]
    Malformed(String),
    /// A well-formed JSON patch that does not fit the object.
    #[error("{0}")]
    DoesNotApply(String),
    /// A JSON patch whose `test` of this path found something else.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    /// A strategic merge patch whose parts do not go together. Upstream has no reason for it; it is known by its words.
    #[error("{0}")]
    Inconsistent(String),
    /// More operations, or a larger result, than the server takes.
    #[error("{0}")]
    TooLarge(String),
    /// Strategic merge of an object whose schema has no patch strategies (custom resources).
    #[error("strategic merge patch is not supported for this resource")]
    StrategicUnsupported,
}

impl From<PatchError> for Status {
    fn from(e: PatchError) -> Self {
        match e {
            PatchError::Malformed(why) => Status::bad_request(why),
            PatchError::DoesNotApply(_) | PatchError::TestFailed(_) => {
                let cause = StatusCause {
                    kind: "UnexpectedServerResponse".into(),
                    message: e.to_string(),
                    field: "patch".into(),
                };
                let message = "the server rejected our request due to an error in our request";
                Status::failure(422, "Invalid", message).with_causes(vec![cause])
            }
            PatchError::Inconsistent(why) => Status::failure(500, "", why),
            PatchError::TooLarge(why) => Status::too_large(why),
            PatchError::StrategicUnsupported => Status::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::fuzz;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// All pointers into a value, and some that lead nowhere.
    fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_owned());
        match value {
            Value::Object(map) => map.iter().for_each(|(k, v)| {
                pointers(v, &format!("{at}/{}", k.replace('~', "~0").replace('/', "~1")), out);
            }),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, v)| pointers(v, &format!("{at}/{i}"), out));
                out.extend(["-", "-1", "99999999999999999999"].map(|i| format!("{at}/{i}")));
            }
            _ => out.push(format!("{at}/x")),
        }
    }

    proptest! {
        #[test]
        fn no_patch_panics((gvk, document, patch) in fuzz::any_pair(), picks in proptest::collection::vec((0..6usize, any::<u16>(), any::<u16>()), 0..8)) {
            let resource = crate::registry::Registry::builtin().kind(&gvk).unwrap();
            let _ = strategic_merge(&document, &patch, resource.schema().unwrap());
            let _ = merge_patch(&document, &patch);
            let _ = json_patch(&document, &patch);

            let mut paths = Vec::new();
            pointers(&document, "", &mut paths);
            let path = |i: u16| paths.get(usize::from(i) % paths.len()).cloned();
            let operations: Vec<Value> = picks
                .into_iter()
                .map(|(op, path_at, from)| {
                    let op = ["add", "remove", "replace", "move", "copy", "test"].get(op);
                    json!({"op": op, "path": path(path_at), "from": path(from), "value": patch["spec"]})
                })
                .collect();
            let _ = json_patch(&document, &json!(operations));
        }

        #[test]
        fn merging_a_document_into_itself_changes_nothing((_, document) in fuzz::any_object()) {
            let merged = merge_patch(&json!({}), &document).unwrap_or_else(|_| json!({}));
            prop_assert_eq!(merge_patch(&merged, &merged), Ok(merged.clone()));
        }
    }
}
