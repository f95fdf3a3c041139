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
            PatchError::DoesNotApply(why) => {
                let cause = StatusCause { kind: "UnexpectedServerResponse".into(), message: why, ..StatusCause::default() };
                let message = "the server rejected our request due to an error in our request";
                Status::failure(422, "Invalid", message).with_causes(vec![cause])
            }
            PatchError::TooLarge(why) => Status::too_large(why),
            PatchError::StrategicUnsupported => Status::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ]),
        }
    }
}
