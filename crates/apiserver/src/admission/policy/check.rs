//! Expressions in configurations and policies are compiled when they are written: a wrong one is refused there.

use api::field::{FieldErrors, Path};
use api::status::Status;
use expressions::{Environment, Program, Type};
use serde_json::Value;

use super::GROUP;
use super::spec::{Patch, Scopes, mutation_type, text};
use crate::admission::cel::environment;
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
            policy(&new["spec"], &mut errors);
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
    let path = Path::new("webhooks");
    for (index, hook) in items(list).enumerate() {
        let path = path.index(index);
        conditions(&hook["matchConditions"], &environment, &path.child("matchConditions"), errors);
    }
}

fn conditions(list: &Value, environment: &Environment, path: &Path<'_>, errors: &mut FieldErrors) {
    for (index, condition) in items(list).enumerate() {
        let path = path.index(index);
        compile(&condition["expression"], environment, &[Type::Bool], &path.child("expression"), errors);
    }
}

fn policy(spec: &Value, errors: &mut FieldErrors) {
    let mutating = spec["mutations"].is_array();
    let scopes = Scopes::of(spec, &Type::Dyn, &Type::Dyn, mutating);
    let path = Path::new("spec");
    for (index, (variable, program)) in items(&spec["variables"]).zip(&scopes.variables).enumerate() {
        if let Err(why) = &program.1 {
            let list = path.child("variables");
            let place = list.index(index);
            errors.invalid(&place.child("expression"), text(&variable["expression"]), why.as_str());
        }
    }
    let environment = &scopes.expressions;
    conditions(&spec["matchConditions"], &scopes.conditions, &path.child("matchConditions"), errors);
    for (index, validation) in items(&spec["validations"]).enumerate() {
        let list = path.child("validations");
        let path = list.index(index);
        compile(&validation["expression"], environment, &[Type::Bool], &path.child("expression"), errors);
        if validation["messageExpression"].as_str().is_some_and(|source| !source.is_empty()) {
            let path = path.child("messageExpression");
            compile(&validation["messageExpression"], environment, &[Type::String], &path, errors);
        }
    }
    for (index, annotation) in items(&spec["auditAnnotations"]).enumerate() {
        let list = path.child("auditAnnotations");
        let path = list.index(index);
        let wanted = [Type::String, Type::Null];
        compile(&annotation["valueExpression"], environment, &wanted, &path.child("valueExpression"), errors);
    }
    for (index, mutation) in items(&spec["mutations"]).enumerate() {
        let list = path.child("mutations");
        let path = list.index(index);
        let (field, patch) = match text(&mutation["patchType"]) {
            "JSONPatch" => ("jsonPatch", Patch::Json),
            _ => ("applyConfiguration", Patch::Apply),
        };
        let path = path.child(field);
        let wanted = [mutation_type(patch)];
        compile(&mutation[field]["expression"], environment, &wanted, &path.child("expression"), errors);
    }
}

fn compile(
    source: &Value,
    environment: &Environment,
    wanted: &[Type],
    path: &Path<'_>,
    errors: &mut FieldErrors,
) {
    let source = text(source);
    if source.trim().is_empty() {
        errors.required(path, "");
    } else if let Err(error) = Program::compile_as(source, environment, wanted) {
        errors.invalid(path, source, format!("compilation failed: {error}"));
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
        const POLICIES: &str = "validatingadmissionpolicies";
        let policy = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
        check(POLICIES, policy(json!({"validations": [{"expression": "object.spec.replicas <= 5"}]})), &[]);
        check(
            POLICIES,
            policy(json!({"validations": [{"expression": "object.x <"}]})),
            &[
                "spec.validations[0].expression: Invalid value: \"object.x <\": compilation failed: ERROR: <input>:1:",
            ],
        );
        check(
            POLICIES,
            policy(json!({"validations": [{"expression": "1"}, {"expression": "params.x == 1"}]})),
            &["must evaluate to bool", "validations[1]", "undeclared reference to 'params'"],
        );
        check(
            POLICIES,
            policy(json!({
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a + 1"}],
                "matchConditions": [{"name": "m", "expression": "request.operation == 'CREATE'"}],
                "validations": [{"expression": "variables.b == 2 && params.data.x == 'y'",
                    "messageExpression": "'b is ' + string(variables.b)"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "'v'"}],
            })),
            &[],
        );
        check(
            POLICIES,
            policy(json!({
                "variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}],
                "matchConditions": [{"name": "m", "expression": "variables.b == 1"}],
                "validations": [{"expression": "request.nope == 1", "messageExpression": "1"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "1"}],
            })),
            &[
                "spec.variables[0].expression",
                "spec.matchConditions[0].expression",
                "undefined field 'nope'",
                "spec.validations[0].messageExpression: Invalid value: \"1\": compilation failed: must evaluate to string",
                "spec.auditAnnotations[0].valueExpression",
            ],
        );
    }

    #[test]
    fn mutations_have_types() {
        const POLICIES: &str = "mutatingadmissionpolicies";
        let mutation = |kind: &str, field: &str, source: &str| json!({"metadata": {"name": "p"}, "spec": {"mutations": [{"patchType": kind, field: {"expression": source}}]}});
        let apply = |source: &str| mutation("ApplyConfiguration", "applyConfiguration", source);
        let patch = |source: &str| mutation("JSONPatch", "jsonPatch", source);
        check(POLICIES, apply("Object{spec: Object.spec{replicas: 1}}"), &[]);
        check(POLICIES, apply("{'spec': 1}"), &["must evaluate to Object"]);
        check(POLICIES, patch("[JSONPatch{op: 'add', path: '/a', value: 1}]"), &[]);
        check(POLICIES, patch("[JSONPatch{nope: 'add'}]"), &["undefined field 'nope'"]);
        check(POLICIES, patch("'x'"), &["must evaluate to list(JSONPatch)"]);
        check(POLICIES, patch(" "), &["mutations[0].jsonPatch.expression: Required value"]);
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
