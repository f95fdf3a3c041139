//! The objects that a binding names as parameters.

use std::sync::Arc;

use serde_json::Value;

use super::binding::{Binding, ParamRef};
use super::spec::Policy;
use crate::admission::AdmissionRequest;
use crate::cache::object::Object;
use crate::cache::object_key;
use crate::catalog::Served;
use crate::state::State;

/// As many parameters are looked at.
const MAX_PARAMS: usize = 1000;

/// What the policy is to be evaluated with, once each; `None` is no parameter. Nothing at all: it does not apply.
pub async fn of(
    policy: &Policy,
    binding: &Binding,
    request: &AdmissionRequest<'_>,
    state: &State,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(reference)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![None]);
    };
    let catalog = state.catalog();
    let Some(served) = catalog.kind(kind) else {
        return Err(format!(
            "failed to find resource referenced by paramKind: '{}, Kind={}'",
            kind.api_version(),
            kind.kind
        ));
    };
    let namespace = namespace(reference, served, request)?;
    let found = match &reference.selector {
        Some(selector) => {
            let selector = selector.as_ref().map_err(|why| format!("the selector of paramRef: {why}"))?;
            selected(served, &namespace, |object| selector.matches(&object["metadata"]["labels"]))
        }
        None => served.cache.get(&object_key(&namespace, &reference.name)).into_iter().collect(),
    };
    if found.is_empty() && !reference.none_allows {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let mut params = Vec::with_capacity(found.len());
    for object in &found {
        let value = served.value(&state.outbound, object).await;
        params.push(Some(value.map_err(|status| status.message)?));
    }
    Ok(params)
}

/// Parameters of a namespaced kind are those of the namespace that is named, or else of the request's.
fn namespace(
    reference: &ParamRef,
    served: &Served,
    request: &AdmissionRequest<'_>,
) -> Result<String, String> {
    if !served.resource.namespaced {
        return match reference.namespace.is_empty() {
            true => Ok(String::new()),
            false => {
                Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned())
            }
        };
    }
    if !reference.namespace.is_empty() {
        return Ok(reference.namespace.clone());
    }
    match if request.is_namespace() { request.name } else { request.namespace } {
        "" => Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            .to_owned()),
        namespace => Ok(namespace.to_owned()),
    }
}

fn selected(served: &Served, namespace: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Arc<Object>> {
    let mut objects = Vec::new();
    served.cache.scan(namespace, "", |object| {
        objects.push(object.clone());
        true
    });
    objects.retain(|object| wanted(&object.value()));
    objects.truncate(MAX_PARAMS);
    objects
}
