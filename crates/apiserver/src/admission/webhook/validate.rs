//! Validating webhooks: all at once; what one of them refuses is refused.

use std::time::Instant;

use api::status::Status;
use futures::future::join_all;

use super::call::{self, TOTAL, ask, concerns};
use super::review::refusal;
use super::{Hook, Hooks};
use crate::admission::AdmissionRequest;
use crate::authz::follow::Followed;
use crate::state::State;

pub async fn validate(
    hooks: &Followed<Hooks>,
    request: &mut AdmissionRequest<'_>,
    state: &State,
) -> Result<(), Status> {
    let hooks = hooks.read().all();
    if hooks.is_empty() || request.configures_admission() {
        return Ok(());
    }
    let deadline = Instant::now() + TOTAL;
    let asked: &AdmissionRequest<'_> = request;
    let answers = join_all(hooks.iter().map(|hook| one(hook, asked, state, deadline))).await;
    let mut refused = None;
    for answer in answers {
        match answer {
            Ok(warnings) => request.warnings.extend(warnings),
            Err((status, warnings)) => {
                request.warnings.extend(warnings);
                refused = refused.or(Some(status));
            }
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The warnings of a webhook, and what it refuses with.
async fn one(
    hook: &Hook,
    request: &AdmissionRequest<'_>,
    state: &State,
    deadline: Instant,
) -> Result<Vec<String>, (Status, Vec<String>)> {
    let plain = |status: Status| (status, Vec::new());
    let Some(matched) = concerns(hook, request, state).await.map_err(plain)? else { return Ok(Vec::new()) };
    let answer = ask(hook, request, &matched, state, deadline, false).await.map_err(plain)?;
    let Some(call::Answer { allowed, status, warnings, .. }) = answer else { return Ok(Vec::new()) };
    if allowed { Ok(warnings) } else { Err((refusal(hook, status), warnings)) }
}
