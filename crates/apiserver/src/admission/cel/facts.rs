//! What is known of a request, as the variables of expressions.

use std::sync::Arc;

use api::gvk::{GroupVersionKind, GroupVersionResource};
use api::status::Status;
use expressions::admission::{NAMESPACE, REQUEST};
use expressions::authorizer::{Check, Question};
use expressions::value::Opaque;
use expressions::{Budget, EvalError, Value, Variables};
use serde_json::{Value as Json, json};

use super::authorizer::Decisions;
use crate::access_review::user_info;
use crate::admission::AdmissionRequest;
use crate::admission::matching::Matched;
use crate::admission::objects::{NAMESPACES, Objects};
use crate::admission::version::converted;
use crate::state::State;

/// Owns what variables refer to.
pub struct Facts {
    pub object: Json,
    pub old: Json,
    pub request: Json,
    pub namespace: Json,
    check: Check,
    pub decisions: Arc<Decisions>,
}

impl Facts {
    /// The request as what it has been matched as: objects are of that version.
    pub async fn of(
        request: &AdmissionRequest<'_>,
        matched: &Matched,
        state: &State,
    ) -> Result<Self, Status> {
        let objects: &dyn Objects = &*state.caches;
        let namespace = match (request.is_namespace(), request.namespace) {
            (true, _) | (_, "") => None,
            (_, name) => objects.get(NAMESPACES, "", name),
        };
        let check = Check {
            group: request.resource.group.clone(),
            resource: request.resource.resource.clone(),
            subresource: request.subresource.to_owned(),
            namespace: request.namespace.to_owned(),
            name: request.name.to_owned(),
            ..Check::default()
        };
        Ok(Self {
            object: of_version(request.object.clone(), request, matched, state).await?,
            old: of_version(request.old_object.clone(), request, matched, state).await?,
            request: described(request, matched),
            namespace: namespace.map_or(Json::Null, |namespace| (*namespace).clone()),
            check,
            decisions: Arc::default(),
        })
    }

    /// What expressions see, with the object of a parameter.
    pub fn scope<'a>(&'a self, params: Option<&'a Json>) -> Scope<'a> {
        Scope { facts: self, params }
    }
}

/// An object in the version that the request has been matched as.
pub async fn of_version(
    object: Json,
    request: &AdmissionRequest<'_>,
    matched: &Matched,
    state: &State,
) -> Result<Json, Status> {
    match matched.kind == *request.kind {
        true => Ok(object),
        false => converted(object, request, &matched.kind, state).await,
    }
}

/// The `request` of a review: everything but the objects and the user's wish's id.
pub fn described(request: &AdmissionRequest<'_>, matched: &Matched) -> Json {
    let resource = |gvr: &GroupVersionResource| json!({"group": gvr.group, "version": gvr.version, "resource": gvr.resource});
    let kind = |gvk: &GroupVersionKind| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let mut described = json!({
        "kind": kind(&matched.kind),
        "resource": resource(&matched.resource),
        "requestKind": kind(request.kind),
        "requestResource": resource(request.resource),
        "operation": request.operation.as_str(),
        "userInfo": user_info(request.user),
        "dryRun": request.dry_run,
        "options": request.options,
    });
    // For a Namespace itself, it is that one.
    let namespace = if request.is_namespace() { request.name } else { request.namespace };
    for (key, value) in [("name", request.name), ("namespace", namespace)] {
        if !value.is_empty() {
            described[key] = value.into();
        }
    }
    if !request.subresource.is_empty() {
        described["subResource"] = request.subresource.into();
        described["requestSubResource"] = request.subresource.into();
    }
    described
}

/// The variables of an expression.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    facts: &'a Facts,
    params: Option<&'a Json>,
}

impl<'a> Variables<'a> for Scope<'a> {
    fn get(&self, name: &str, _: &mut Budget) -> Result<Option<Value<'a>>, EvalError> {
        let facts = self.facts;
        let question = |question: Question| Value::Opaque(Opaque::Question(question.into()));
        Ok(Some(match name {
            "object" => Value::from_json(&facts.object),
            "oldObject" => Value::from_json(&facts.old),
            "request" => Value::typed(&facts.request, &REQUEST),
            "namespaceObject" => Value::typed(&facts.namespace, &NAMESPACE),
            "params" => self.params.map_or(Value::Null, Value::from_json),
            "authorizer" => question(Question::new(facts.decisions.clone())),
            "authorizer.requestResource" => {
                question(Question::of_resource(facts.decisions.clone(), facts.check.clone()))
            }
            _ => return Ok(None),
        }))
    }
}
