//! MutatingAdmissionPolicy: changes that expressions describe, as configurations that are applied or as JSON patches.

use api::patch::{PatchError, json_patch};
use api::status::{Status, StatusCause};
use expressions::Budget;
use serde_json::Value;
use tracing::warn;

use super::apply::applied;
use super::binding::Binding;
use super::index::Policies;
use super::spec::{Mutation, Patch, Policy};
use super::validating::applies;
use super::variables::Composed;
use super::{is_exempt, params};
use crate::admission::AdmissionRequest;
use crate::admission::cel::{Facts, Verdict, evaluate, of_version};
use crate::admission::mutation::{Round, settled};
use crate::admission::version::converted;
use crate::authz::follow::Followed;
use crate::state::State;

pub async fn mutate(
    policies: &Followed<Policies>,
    request: &mut AdmissionRequest<'_>,
    state: &State,
    round: &mut Round,
) -> Result<(), Status> {
    let bound = policies.read().bound();
    // What is deleted is not changed.
    if bound.is_empty() || is_exempt(request) || !request.object.is_object() {
        return Ok(());
    }
    for (policy, bindings) in bound.iter() {
        for (index, binding) in bindings.iter().enumerate() {
            let id = (format!("policy {}/{}", policy.name, binding.name), index);
            if round.again && !round.due.contains(&id) {
                continue;
            }
            match bound_to(policy, binding, request, state).await {
                Ok(None) => {}
                Ok(Some(object)) => {
                    let changed = object != request.object;
                    request.object = object;
                    round.invoked(id, policy.reinvoked, changed);
                }
                Err(failure) if policy.fails => return Err(failure.status(policy, binding, request)),
                Err(Failure { why, .. }) => {
                    warn!(
                        policy = policy.name,
                        binding = binding.name,
                        why,
                        "a mutating policy failed; it is passed over"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Why a policy could not be carried out.
struct Failure {
    /// What clients are told beside the code, which is that of a refusal in any case.
    reason: &'static str,
    why: String,
}

impl Failure {
    fn configuring(what: &str, why: impl std::fmt::Display) -> Self {
        Self { reason: "Forbidden", why: format!("failed to configure {what}: {why}") }
    }

    fn status(self, policy: &Policy, binding: &Binding, request: &AdmissionRequest<'_>) -> Status {
        let told =
            format!("policy '{}' with binding '{}' denied request: {}", policy.name, binding.name, self.why);
        let mut status = request.forbidden("");
        status.message.clone_from(&told);
        status.reason = self.reason.into();
        status.with_causes(vec![StatusCause { message: told, ..StatusCause::default() }])
    }
}

/// Where the policy itself is what fails.
impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { reason: "Invalid", why }
    }
}

/// The object as the policy leaves it; None where it is not about it.
async fn bound_to(
    policy: &Policy,
    binding: &Binding,
    request: &AdmissionRequest<'_>,
    state: &State,
) -> Result<Option<Value>, Failure> {
    fn told(status: Status) -> String {
        status.message
    }
    let of_policy = |why: String| Failure::configuring("policy", why);
    let criteria = policy.criteria.as_ref().map_err(|why| of_policy(why.clone()))?;
    let registry = &state.catalog().registry;
    let matched = criteria.matched(request, registry, &*state.caches, false);
    let Some(matched) = matched.map_err(|status| of_policy(status.message))? else { return Ok(None) };
    if !applies(binding, request, state).map_err(|status| Failure::configuring("binding", status.message))? {
        return Ok(None);
    }
    let found = params::of(policy, binding, request, state)
        .await
        .map_err(|why| Failure::configuring("binding", why))?;
    let mut facts = Facts::of(request, &matched, state).await.map_err(told)?;
    let mut applied = false;
    for parameter in &found {
        match policy
            .conditions
            .verdict(&facts, &facts.scope(parameter.as_ref()), &state.authorizer, request.user)
            .await
        {
            Verdict::Matches => {}
            Verdict::Excluded => continue,
            Verdict::Failed(why) => return Err(why.into()),
        }
        applied = true;
        let mut budget = Budget::default();
        for mutation in &policy.mutations {
            // Each sees what the one before has made.
            let object =
                one(policy, mutation, &facts, parameter.as_ref(), request, state, &mut budget).await?;
            let object = in_request_version(object, request, state).await.map_err(told)?;
            facts.object = of_version(object, request, &matched, state).await.map_err(told)?;
        }
    }
    if !applied {
        return Ok(None);
    }
    Ok(Some(in_request_version(facts.object, request, state).await.map_err(told)?))
}

/// Back to the version of the request, checked and defaulted.
async fn in_request_version(
    object: Value,
    request: &AdmissionRequest<'_>,
    state: &State,
) -> Result<Value, Status> {
    settled(converted(object, request, request.kind, state).await?, request, state)
}

async fn one(
    policy: &Policy,
    mutation: &Mutation,
    facts: &Facts,
    parameter: Option<&Value>,
    request: &AdmissionRequest<'_>,
    state: &State,
    budget: &mut Budget,
) -> Result<Value, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("expression '{}' resulted in error: {error}", mutation.expression)
    };
    let program = mutation.program.as_ref().map_err(|why| failed(why))?;
    let variables = Composed::new(facts.scope(parameter), policy);
    let value =
        evaluate(program, &variables, &facts.decisions, &state.authorizer, request.user, budget).await;
    let patch = value.and_then(|value| value.to_json()).map_err(|error| failed(&error))?;
    match mutation.patch {
        Patch::Json => match json_patch(&facts.object, &patch) {
            // Who tests says by it what the mutation is for.
            Err(PatchError::TestFailed(_)) => Ok(facts.object.clone()),
            patched => patched.map_err(|error| format!("JSON Patch: {error}")),
        },
        Patch::Apply => {
            applied(&facts.object, patch, state).map_err(|why| format!("error applying patch: {why}"))
        }
    }
}
