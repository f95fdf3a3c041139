//! One webhook asked about one request.

use std::time::{Duration, Instant};

use api::status::Status;
use serde_json::{Map, Value};
use tracing::warn;

use super::Hook;
pub use super::review::Answer;
use super::review::{self, Question};
use crate::admission::AdmissionRequest;
use crate::admission::cel::{Facts, Verdict, described, of_version};
use crate::admission::matching::Matched;
use crate::audit;
use crate::metrics::admission::Called;
use crate::state::State;

/// All webhooks of one phase of a request together.
pub const TOTAL: Duration = Duration::from_secs(60);

/// As what the request is to be shown to this webhook, if it is.
pub async fn concerns(
    hook: &Hook,
    request: &AdmissionRequest<'_>,
    state: &State,
) -> Result<Option<Matched>, Status> {
    let criteria = match &hook.criteria {
        Ok(criteria) => criteria,
        Err(why) => {
            return Err(Status::internal(format!("webhook {:?} cannot be matched: {why}", hook.name)));
        }
    };
    let catalog = state.catalog();
    let objects = &*state.caches;
    let Some(matched) = criteria.matched(request, &catalog.registry, objects, false)? else {
        return Ok(None);
    };
    if hook.conditions.is_empty() {
        return Ok(Some(matched));
    }
    let facts = Facts::of(request, &matched, state).await?;
    match hook.conditions.verdict(&facts, &facts.scope(None), &state.authorizer, request.user).await {
        Verdict::Matches => Ok(Some(matched)),
        Verdict::Excluded => Ok(None),
        Verdict::Failed(why) if hook.fails => Err(request.forbidden(why)),
        Verdict::Failed(why) => {
            warn!(webhook = hook.name, why, "match conditions failed; the webhook is passed over");
            Ok(None)
        }
    }
}

/// Asks. None where the call has failed and that is to be ignored.
pub async fn ask(
    hook: &Hook,
    request: &AdmissionRequest<'_>,
    matched: &Matched,
    state: &State,
    deadline: Instant,
    mutating: bool,
) -> Result<Option<Answer>, Status> {
    if request.dry_run && !hook.dry_runs {
        return Err(Status::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            hook.name
        )));
    }
    let begun = Instant::now();
    let answer = sent(hook, request, matched, state, deadline, mutating).await;
    let called = match &answer {
        Ok(answer) if answer.allowed => Called::Allowed,
        Ok(answer) => Called::Refused(answer.status.as_ref().map_or(400, |status| status.code)),
        Err(_) => Called::Failed { ignored: !hook.fails },
    };
    state.metrics.admission.webhook(&hook.name, mutating, request.operation, called, begun.elapsed());
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(why) => {
            let failed = format!("failed calling webhook {:?}: {why}", hook.name);
            if hook.fails {
                return Err(Status::internal(failed));
            }
            warn!(webhook = hook.name, why, "failed calling a webhook; its failure is ignored");
            let sort = if mutating { "mutating" } else { "validating" };
            let key = format!("failed-open.{sort}.webhook.admission.k8s.io/round_0_index_{}", hook.index);
            audit::annotate(&key, hook.name.clone());
            Ok(None)
        }
    }
}

async fn sent(
    hook: &Hook,
    request: &AdmissionRequest<'_>,
    matched: &Matched,
    state: &State,
    deadline: Instant,
    mutating: bool,
) -> Result<Answer, String> {
    let destination = hook.destination.as_ref().map_err(Clone::clone)?;
    let uid = uuid::Uuid::new_v4().to_string();
    let body = body(hook, request, matched, &uid, state).await?;
    let left = deadline.saturating_duration_since(Instant::now());
    let limit = hook.timeout.min(left);
    let query = format!("?timeout={}s", hook.timeout.as_secs());
    let answer = state.outbound.post(destination, &query, body, limit).await;
    let bytes = answer.map_err(|error| format!("failed to call webhook: {error}"))?;
    let answer = review::read(&bytes, hook.version, &uid, mutating)?;
    for (key, value) in &answer.annotations {
        audit::annotate(&format!("{}/{key}", hook.name), value.clone());
    }
    Ok(answer)
}

async fn body(
    hook: &Hook,
    request: &AdmissionRequest<'_>,
    matched: &Matched,
    uid: &str,
    state: &State,
) -> Result<Vec<u8>, String> {
    let described = described(request, matched);
    let none = Map::new();
    let described = described.as_object().unwrap_or(&none);
    let encoded = |object: &Value, old: &Value| {
        let question = Question::new(hook, uid, described, object, old);
        serde_json::to_vec(&question).map_err(|error| error.to_string())
    };
    if matched.kind == *request.kind {
        return encoded(&request.object, request.old_object);
    }
    let version = |object: &Value| of_version(object.clone(), request, matched, state);
    let object = version(&request.object).await.map_err(|status| status.message)?;
    let old = version(request.old_object).await.map_err(|status| status.message)?;
    encoded(&object, &old)
}
