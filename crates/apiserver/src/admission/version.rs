//! Objects in another version of their kind: what webhooks and policies see whose rules name that one.

use api::gvk::GroupVersionKind;
use api::status::Status;
use serde_json::Value;

use super::AdmissionRequest;
use crate::convert::convert;
use crate::state::State;

/// An object of the request in the version `to`. What is of that version already, or is not there, stays as it is.
pub async fn converted(
    object: Value,
    request: &AdmissionRequest<'_>,
    to: &GroupVersionKind,
    state: &State,
) -> Result<Value, Status> {
    let mut object = object;
    if !object.is_object() || GroupVersionKind::of(&object).as_ref() == Some(to) {
        return Ok(object);
    }
    let catalog = state.catalog();
    let asked = request.resource;
    let served = catalog.get(&asked.group, &asked.version, &asked.resource);
    match served.and_then(|served| served.custom.as_ref()) {
        Some(custom) => {
            let converted = custom.convert(&state.outbound, vec![object], &to.api_version()).await?;
            Ok(converted.into_iter().next().unwrap_or_default())
        }
        None => {
            convert(&mut object, to);
            Ok(object)
        }
    }
}
