//! ValidatingAdmissionPolicy: what violates one is refused, warned of or recorded, as its bindings say.

use std::borrow::Cow;
use std::time::Instant;

use api::status::{Status, StatusCause};
use expressions::{Budget, EvalError, Program, Value};
use serde_json::json;

use super::binding::Binding;
use super::index::Policies;
use super::spec::{Policy, Validation};
use super::variables::Composed;
use super::{is_exempt, params};
use crate::admission::AdmissionRequest;
use crate::admission::cel::{Facts, Verdict, evaluate};
use crate::audit;
use crate::authz::follow::Followed;
use crate::state::State;

/// Longer messages, and those of several lines, are not told.
const MAX_MESSAGE: usize = 5 << 10;
/// Audit annotations are cut there.
const MAX_ANNOTATION: usize = 10 << 10;

/// One violation.
struct Violation {
    policy: String,
    binding: Option<String>,
    /// Which of the validations; none where something could not be evaluated.
    index: Option<usize>,
    /// Whether it refuses whatever the binding says of violations.
    always: bool,
    message: String,
    reason: Cow<'static, str>,
}

impl Violation {
    fn told(&self) -> String {
        let binding = self.binding.as_ref().map(|name| format!(" with binding '{name}'")).unwrap_or_default();
        format!("ValidatingAdmissionPolicy '{}'{binding} denied request: {}", self.policy, self.message)
    }

    /// The refusal: upstream's reads as forbidden, whatever its reason.
    fn status(&self, request: &AdmissionRequest<'_>) -> Status {
        let told = self.told();
        let mut status = request.forbidden(&told);
        status.code = match &*self.reason {
            "Unauthorized" => 401,
            "Forbidden" => 403,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        status.reason = self.reason.clone();
        status.with_causes(vec![StatusCause { message: told, ..StatusCause::default() }])
    }
}

pub async fn validate(
    policies: &Followed<Policies>,
    request: &mut AdmissionRequest<'_>,
    state: &State,
) -> Result<(), Status> {
    let bound = policies.read().bound();
    if bound.is_empty() || is_exempt(request) {
        return Ok(());
    }
    let mut denied = Vec::new();
    let mut audited = Vec::new();
    for (policy, bindings) in bound.iter() {
        let matched = match &policy.criteria {
            Ok(criteria) => criteria.matched(request, &state.catalog().registry, &*state.caches, false),
            Err(why) => Err(Status::internal(why)),
        };
        let matched = match matched {
            Ok(Some(matched)) => matched,
            Ok(None) => continue,
            Err(status) => {
                let why = format!("failed to configure policy: {}", status.message);
                denied.extend(failed(policy, None, true, why));
                continue;
            }
        };
        let facts = Facts::of(request, &matched, state).await?;
        for binding in bindings {
            if !applies(binding, request, state)? {
                continue;
            }
            let begun = Instant::now();
            let violations = bound_to(policy, binding, &facts, request, state).await;
            let took = begun.elapsed();
            let told = |error: &str, action: &str| {
                state.metrics.admission.checked(&policy.name, &binding.name, error, action, took);
            };
            if violations.is_empty() {
                told("no_error", "allow");
            }
            for violation in violations {
                let error = if violation.index.is_some() { "no_error" } else { "invalid_error" };
                binding
                    .actions
                    .names()
                    .into_iter()
                    .for_each(|action| told(error, &action.to_ascii_lowercase()));
                if binding.actions.warn {
                    let binding = &binding.name;
                    let warning = format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{binding}': {}",
                        policy.name, violation.message
                    );
                    request.warnings.push(warning);
                }
                if binding.actions.audit {
                    audited.push(json!({
                        "message": violation.message, "policy": policy.name, "binding": binding.name,
                        "expressionIndex": violation.index.unwrap_or(0),
                        "validationActions": binding.actions.names(),
                    }));
                }
                if binding.actions.deny || violation.always {
                    denied.push(violation);
                }
            }
        }
    }
    if !audited.is_empty() {
        let told = serde_json::Value::Array(audited).to_string();
        audit::annotate("validation.policy.admission.k8s.io/validation_failure", told);
    }
    denied.first().map_or(Ok(()), |violation| Err(violation.status(request)))
}

/// Whether the binding is about the request.
pub(super) fn applies(
    binding: &Binding,
    request: &AdmissionRequest<'_>,
    state: &State,
) -> Result<bool, Status> {
    match &binding.criteria {
        Ok(criteria) => {
            let registry = &state.catalog().registry;
            Ok(criteria.matched(request, registry, &*state.caches, true)?.is_some())
        }
        Err(why) => Err(Status::internal(format!("the binding {:?} cannot be matched: {why}", binding.name))),
    }
}

/// What could not be done: a violation, unless the policy says to ignore such.
fn failed(policy: &Policy, binding: Option<&Binding>, always: bool, message: String) -> Option<Violation> {
    policy.fails.then(|| Violation {
        policy: policy.name.clone(),
        binding: binding.map(|binding| binding.name.clone()),
        index: None,
        always,
        message,
        reason: "Invalid".into(),
    })
}

async fn bound_to(
    policy: &Policy,
    binding: &Binding,
    facts: &Facts,
    request: &AdmissionRequest<'_>,
    state: &State,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let found = match params::of(policy, binding, request, state).await {
        Ok(found) => found,
        Err(why) => {
            violations.extend(failed(
                policy,
                Some(binding),
                true,
                format!("failed to configure binding: {why}"),
            ));
            return violations;
        }
    };
    for parameter in &found {
        let scope = facts.scope(parameter.as_ref());
        match policy.conditions.verdict(facts, &scope, &state.authorizer, request.user).await {
            Verdict::Matches => {}
            Verdict::Excluded => continue,
            Verdict::Failed(why) => {
                violations.extend(failed(policy, Some(binding), false, why));
                continue;
            }
        }
        let variables = Composed::new(scope, policy);
        let mut evaluation = Evaluation { facts, variables, request, state, budget: Budget::default() };
        for (index, validation) in policy.validations.iter().enumerate() {
            let (violation, spent) = evaluation.validation(policy, binding, index, validation).await;
            violations.extend(violation);
            if spent {
                break;
            }
        }
        for (key, program) in &policy.annotations {
            violations.extend(evaluation.annotation(policy, binding, key, program).await);
        }
    }
    violations
}

/// The expressions of a policy about one object and parameter, within one budget.
struct Evaluation<'e, 'r> {
    facts: &'e Facts,
    variables: Composed<'e>,
    request: &'e AdmissionRequest<'r>,
    state: &'e State,
    budget: Budget,
}

impl<'e> Evaluation<'e, '_> {
    async fn value(&mut self, program: &Result<Program, String>) -> Result<Value<'e>, EvalError> {
        let program = program.as_ref().map_err(|why| EvalError::Failed(why.clone()))?;
        let (authorizer, user) = (&self.state.authorizer, self.request.user);
        evaluate(program, &self.variables, &self.facts.decisions, authorizer, user, &mut self.budget).await
    }

    /// The violation, if it is one, and whether the budget is spent.
    async fn validation(
        &mut self,
        policy: &Policy,
        binding: &Binding,
        index: usize,
        validation: &Validation,
    ) -> (Option<Violation>, bool) {
        let expression = &validation.expression;
        let evaluated = self.value(&validation.program).await.map(|value| value.as_bool());
        match evaluated {
            Ok(Some(true)) => (None, false),
            Ok(Some(false)) => {
                let violation = Violation {
                    policy: policy.name.clone(),
                    binding: Some(binding.name.clone()),
                    index: Some(index),
                    always: false,
                    message: self.message(validation).await,
                    reason: validation.reason.clone(),
                };
                (Some(violation), false)
            }
            Ok(None) => {
                let why = format!("expression '{expression}' did not evaluate to a boolean");
                (failed(policy, Some(binding), false, why), false)
            }
            Err(error) if error.is_budget() && self.budget.remaining() == 0 => {
                let why = "validation failed due to running out of cost budget, no further validation rules will be run";
                (failed(policy, Some(binding), false, why.to_owned()), true)
            }
            Err(error) => {
                let why = format!("expression '{expression}' resulted in error: {error}");
                (failed(policy, Some(binding), false, why), false)
            }
        }
    }

    /// What the expression for it says, as long as that is a proper line; else the message, else the expression.
    async fn message(&mut self, validation: &Validation) -> String {
        if let Some(program) = &validation.message_expression
            && let Ok(value) = self.value(program).await
        {
            let told = value.as_str().unwrap_or_default().trim();
            if !told.is_empty() && told.len() <= MAX_MESSAGE && !told.contains('\n') {
                return told.to_owned();
            }
        }
        match validation.message.is_empty() {
            false => validation.message.clone(),
            true => format!("failed expression: {}", validation.expression),
        }
    }

    async fn annotation(
        &mut self,
        policy: &Policy,
        binding: &Binding,
        key: &str,
        program: &Result<Program, String>,
    ) -> Option<Violation> {
        let value = match self.value(program).await {
            Ok(value) => value,
            Err(error) => {
                let source = program.as_ref().map_or(key, |program| program.source());
                let why = format!("expression '{source}' resulted in error: {error}");
                return failed(policy, Some(binding), true, why);
            }
        };
        let told = value.as_str().unwrap_or_default().trim();
        if !told.is_empty() {
            let end = (0..=MAX_ANNOTATION.min(told.len())).rev().find(|end| told.is_char_boundary(*end));
            audit::annotate(&format!("{}/{key}", policy.name), &told[..end.unwrap_or(0)]);
        }
        None
    }
}
