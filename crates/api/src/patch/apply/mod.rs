//! Server-side apply, and the managed fields that record who set what.

use crate::schema::Schema;
use crate::status::{Status, StatusCause};
use serde_json::Value;

/// Who applies, and how.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions<'a> {
    /// The `fieldManager` parameter.
    pub manager: &'a str,
    /// The `apiVersion` of the applied object.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Take over fields that others own.
    pub force: bool,
    /// Now, in RFC 3339 to the second.
    pub time: &'a str,
    /// Top-level fields that this endpoint does not set (`status` for the object itself, `spec` for its status).
    pub ignored: &'a [&'a str],
}

/// Who created, updated or patched an object.
#[derive(Debug, Clone, Copy)]
pub struct Updater<'a> {
    /// The `fieldManager` parameter or, without one, the start of the user agent.
    pub manager: &'a str,
    pub api_version: &'a str,
    pub subresource: &'a str,
    /// Now, in RFC 3339 to the second.
    pub time: &'a str,
}

/// A field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// As messages name it: `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// `.spec.template.spec.containers[name="x"].image`
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    #[error("{0}")]
    Invalid(String),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    let _ = conflicts;
    String::new()
}

impl From<ApplyError> for Status {
    fn from(e: ApplyError) -> Self {
        let message = e.to_string();
        match e {
            ApplyError::Invalid(why) => Status::bad_request(why),
            ApplyError::Conflicts(conflicts) => {
                let causes = conflicts
                    .into_iter()
                    .map(|c| StatusCause {
                        kind: "FieldManagerConflict".into(),
                        message: format!("conflict with {}", c.manager),
                        field: c.path,
                    })
                    .collect();
                Status::apply_conflict(message, causes)
            }
        }
    }
}

/// The live object (`None`: it is to be created) with the configuration applied, not yet defaulted.
pub fn server_side_apply(live: Option<&Value>, applied: &Value, schema: &Schema, options: &ApplyOptions<'_>) -> Result<Value, ApplyError> {
    let _ = (live, schema, options);
    Ok(applied.clone())
}

/// Records in `new` which fields this create (`old` is `None`), update or patch set.
pub fn update_managed_fields(old: Option<&Value>, new: &mut Value, schema: &Schema, updater: &Updater<'_>) {
    let _ = (old, new, schema, updater);
}
