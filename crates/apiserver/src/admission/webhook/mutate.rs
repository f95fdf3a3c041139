//! Mutating webhooks: one after the other, each on what the one before has made.
//!
//! Where one has changed the object, plugins and those webhooks that ask for it (`reinvocationPolicy: IfNeeded`) see
//! it once more ([`super::super::Chain::mutate`]).

use std::time::Instant;

use api::patch::json_patch;
use api::status::Status;
use serde_json::Value;

use super::Hooks;
use super::call::{TOTAL, ask, concerns};
use super::review::refusal;
use crate::admission::AdmissionRequest;
use crate::admission::cel::of_version;
use crate::admission::matching::Matched;
use crate::admission::mutation::{Round, settled};
use crate::admission::version::converted;
use crate::authz::follow::Followed;
use crate::state::State;

/// Calls the webhooks of a round.
pub async fn mutate(
    hooks: &Followed<Hooks>,
    request: &mut AdmissionRequest<'_>,
    state: &State,
    round: &mut Round,
) -> Result<(), Status> {
    let hooks = hooks.read().all();
    if hooks.is_empty() || request.configures_admission() {
        return Ok(());
    }
    let deadline = Instant::now() + TOTAL;
    for hook in hooks.iter() {
        let id = (hook.configuration.clone(), hook.index);
        if round.again && !round.due.contains(&id) {
            continue;
        }
        let Some(matched) = concerns(hook, request, state).await? else { continue };
        let Some(answer) = ask(hook, request, &matched, state, deadline, true).await? else { continue };
        request.warnings.extend(answer.warnings);
        if !answer.allowed {
            return Err(refusal(hook, answer.status));
        }
        let mut changed = false;
        if let Some(patch) = answer.patch {
            if request.object.is_null() {
                return Err(Status::internal(format!(
                    "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                    hook.name
                )));
            }
            let patched = patched(request, &matched, &patch, state).await;
            let object = patched.map_err(|why| {
                Status::internal(format!(
                    "admission webhook {:?} returned a patch that cannot be applied: {why}",
                    hook.name
                ))
            })?;
            let object = settled(object, request, state)?;
            changed = object != request.object;
            request.object = object;
        }
        round.invoked(id, hook.reinvoked, changed);
    }
    Ok(())
}

/// The object with the patch applied, in the version that the webhook has seen.
async fn patched(
    request: &AdmissionRequest<'_>,
    matched: &Matched,
    patch: &Value,
    state: &State,
) -> Result<Value, String> {
    if matched.kind == *request.kind {
        return json_patch(&request.object, patch).map_err(|error| error.to_string());
    }
    let told = |status: Status| status.message;
    let seen = of_version(request.object.clone(), request, matched, state).await.map_err(told)?;
    let patched = json_patch(&seen, patch).map_err(|error| error.to_string())?;
    converted(patched, request, request.kind, state).await.map_err(told)
}
