//! Subresources whose body is not simply part of their object.

mod binding;
mod eviction;
pub mod scale;

use api::gvk::GroupVersionKind;
use api::status::Status;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use crate::admission::{AdmissionRequest, Operation};
use crate::handlers::call::Call;
use crate::handlers::{decode, patch, render, write};
use crate::options::FieldValidation;
use crate::server::respond::{self, Answer};
use crate::token;

pub use binding::binding;

/// Answers a request for a subresource that exists and supports the verb.
pub async fn serve(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    match (call.info.resource.as_str(), call.info.subresource.as_str()) {
        ("pods", "binding") => binding(call, body).await,
        ("pods", "eviction") => eviction::evict(call, body).await,
        ("serviceaccounts", "token") => service_account_token(call, body).await,
        (_, "scale") => scale::serve(call, body).await,
        // Views of the object itself; the strategy sees to what may change.
        (_, "ephemeralcontainers" | "resize" | "finalize" | "approval") => match call.info.verb.as_str() {
            "get" => {
                let object = call.served.cache.get(&call.key()).ok_or_else(|| call.not_found())?;
                render::object(call, StatusCode::OK, &object)
            }
            "update" => write::update(call, body).await,
            "patch" => patch::patch(call, body).await,
            verb => Err(Status::method_not_allowed(call.group_resource(), verb)),
        },
        _ => Err(Status::unknown_resource()),
    }
}

async fn service_account_token(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    let subresource = call.served.resource.subresource("token").ok_or_else(Status::unknown_resource)?;
    let schema = subresource.schema();
    let request = decode::typed(call, body, &subresource.gvk, schema.as_deref(), FieldValidation::Ignore)?;
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let request = admitted(call, &subresource.gvk, request, false).await?;
    let caches = &*call.state.caches;
    let answered =
        token::request::create(&call.state.issuer, caches, namespace, name, request, Timestamp::now())?;
    respond::value(StatusCode::CREATED, &answered, call.accept.format, call.pretty)
}

/// What is sent to a subresource that stores nothing of it, admitted as the new object that it is.
async fn admitted(
    call: &Call,
    kind: &GroupVersionKind,
    object: Value,
    dry_run: bool,
) -> Result<Value, Status> {
    let mut admission = AdmissionRequest {
        user: &call.user,
        operation: Operation::Create,
        resource: &call.served.resource.gvr(),
        kind,
        subresource: &call.info.subresource,
        namespace: &call.info.namespace,
        name: &call.info.name,
        object,
        old_object: &Value::Null,
        dry_run,
        options: &Value::Null,
        warnings: Vec::new(),
    };
    let mut outcome = call.state.admission.mutate(&mut admission, &call.state).await;
    if outcome.is_ok() {
        outcome = call.state.admission.validate(&mut admission, &call.state).await;
    }
    let AdmissionRequest { object, warnings, .. } = admission;
    warnings.into_iter().for_each(|warning| call.warn(warning));
    outcome.map(|()| object)
}
