//! Expressions in configurations and policies are compiled when they are written: a wrong one is refused there.

use api::field::{FieldError, FieldErrorKind, FieldErrors};
use api::status::Status;
use expressions::Type;
use expressions::admission::environment;
use expressions::policy::{Fault, compiled, faults};
use serde_json::Value;

use super::GROUP;
use super::spec::text;
use crate::admission::objects::items;
use crate::admission::{AdmissionRequest, Operation};

pub fn validate(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if request.resource.group != GROUP || !request.subresource.is_empty() || !writes {
        return Ok(());
    }
    let (new, old) = (&request.object, request.old_object);
    let mut errors = FieldErrors::new();
    match request.resource.resource.as_str() {
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations"
            if new["webhooks"] != old["webhooks"] =>
        {
            webhooks(&new["webhooks"], &mut errors);
        }
        // What has been accepted once stays so: a later server may be stricter.
        "validatingadmissionpolicies" | "mutatingadmissionpolicies" if new["spec"] != old["spec"] => {
            let faults = faults(&new["spec"], &Type::Dyn, &Type::Dyn);
            faults.into_iter().for_each(|fault| errors.push(wrong(fault)));
        }
        _ => {}
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, &request.kind.kind, request.object_name(), &errors))
}

fn webhooks(list: &Value, errors: &mut FieldErrors) {
    let environment = environment(&Type::Dyn, None);
    for (index, hook) in items(list).enumerate() {
        for (at, condition) in items(&hook["matchConditions"]).enumerate() {
            let source = text(&condition["expression"]);
            if let Err(why) = compiled(source, &environment, &[Type::Bool]) {
                let field = format!("webhooks[{index}].matchConditions[{at}].expression");
                errors.push(wrong(Fault { field, source: source.to_owned(), why }));
            }
        }
    }
}

fn wrong(fault: Fault) -> FieldError {
    FieldError {
        kind: FieldErrorKind::Invalid,
        field: fault.field,
        value: Some(fault.source.into()),
        detail: format!("compilation failed: {}", fault.why),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::testing::Case;

    #[track_caller]
    fn check(resource: &str, object: Value, expected: &[&str]) {
        let case = Case::create(GROUP, resource, object);
        let refusal = case.refusal(|request| validate(request));
        if expected.is_empty() {
            assert_eq!(refusal, "");
        }
        for part in expected {
            assert!(refusal.contains(part), "{refusal:?} lacks {part:?}");
        }
    }

    #[test]
    fn wrong_expressions_are_refused() {
        let policy = |source: &str| json!({"metadata": {"name": "p"}, "spec": {"validations": [{"expression": source}]}});
        const POLICIES: &str = "validatingadmissionpolicies";
        check(POLICIES, policy("object.spec.replicas <= 5"), &[]);
        check(
            POLICIES,
            policy("object.x <"),
            &[
                "spec.validations[0].expression: Invalid value: \"object.x <\": compilation failed: ERROR: <input>:1:",
            ],
        );
        check(POLICIES, policy("1"), &["compilation failed: must evaluate to bool"]);
    }

    #[test]
    fn conditions_of_webhooks_too() {
        let configuration = |source: &str| json!({"metadata": {"name": "c"}, "webhooks": [{"matchConditions": [{"name": "m", "expression": source}]}]});
        check(
            "validatingwebhookconfigurations",
            configuration("authorizer.group('').resource('pods').check('get').allowed()"),
            &[],
        );
        check(
            "mutatingwebhookconfigurations",
            configuration("objct.x"),
            &["webhooks[0].matchConditions[0].expression", "'objct'"],
        );
    }
}
