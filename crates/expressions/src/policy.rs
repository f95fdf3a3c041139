//! The expressions of an admission policy: which there are, what they know, what they have to evaluate to.
//!
//! The API server compiles them when a policy is written and when it is applied; a controller compiles them once more
//! with the types of what the policy is about, to warn of mistakes.

use serde_json::Value as Json;

use crate::admission::environment;
use crate::environment::{Environment, JSON_PATCH, OBJECT};
use crate::program::Program;
use crate::types::{ObjectType, Type};

/// A program, or why there is none.
pub type Compiled = Result<Program, String>;

/// The variables of a policy's expressions, by what is known of objects and parameters.
pub struct Scopes {
    /// `matchConditions`: without the policy's own variables.
    pub conditions: Environment,
    /// The others.
    pub expressions: Environment,
    /// The policy's own, by the names that expressions use: `variables.x`.
    pub variables: Vec<(String, Compiled)>,
}

impl Scopes {
    pub fn of(spec: &Json, object: &Type, params: &Type) -> Self {
        let params = spec["paramKind"].is_object().then_some(params);
        let conditions = environment(object, params);
        let mut expressions = conditions.clone();
        if spec["mutations"].is_array() {
            expressions = expressions.with_mutations();
        }
        let mut variables = Vec::new();
        for variable in items(&spec["variables"]) {
            let name = format!("variables.{}", text(&variable["name"]));
            let program = compiled(text(&variable["expression"]), &expressions, &[]);
            // Variables see those before them. One that is wrong may be anything: it is told itself.
            let of = program.as_ref().map_or(Type::Dyn, |program| program.result_type().clone());
            expressions = expressions.with(&name, of);
            variables.push((name, program));
        }
        Self { conditions, expressions, variables }
    }
}

/// Compiles an expression; without `wanted` its value may be anything.
pub fn compiled(source: &str, environment: &Environment, wanted: &[Type]) -> Compiled {
    let program = match wanted {
        [] => Program::compile(source, environment),
        wanted => Program::compile_as(source, environment, wanted),
    };
    program.map_err(|error| error.to_string())
}

/// How a mutation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    Apply,
    Json,
}

impl Patch {
    /// The sort of a mutation, and its expression.
    pub fn of(mutation: &Json) -> (Self, &str) {
        match text(&mutation["patchType"]) {
            "JSONPatch" => (Self::Json, text(&mutation["jsonPatch"]["expression"])),
            _ => (Self::Apply, text(&mutation["applyConfiguration"]["expression"])),
        }
    }

    /// What the expression has to evaluate to.
    pub fn wanted(self) -> Type {
        let named = |name: &str| {
            let of = ObjectType { name: name.into(), fields: Default::default(), constructible: true };
            Type::Object(of.into())
        };
        match self {
            Self::Apply => named(OBJECT),
            Self::Json => Type::list(named(JSON_PATCH)),
        }
    }
}

/// An expression that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `spec.validations[0].expression`
    pub field: String,
    pub source: String,
    pub why: String,
}

/// What is wrong with the expressions of a policy about such objects and parameters.
pub fn faults(spec: &Json, object: &Type, params: &Type) -> Vec<Fault> {
    let scopes = Scopes::of(spec, object, params);
    let mut faults = Vec::new();
    for (index, (variable, (_, program))) in items(&spec["variables"]).zip(&scopes.variables).enumerate() {
        let field = format!("spec.variables[{index}].expression");
        tell(field, text(&variable["expression"]), program, &mut faults);
    }
    let mut check = |field: String, source: &str, environment: &Environment, wanted: &[Type]| {
        tell(field, source, &compiled(source, environment, wanted), &mut faults);
    };
    for (index, condition) in items(&spec["matchConditions"]).enumerate() {
        let field = format!("spec.matchConditions[{index}].expression");
        check(field, text(&condition["expression"]), &scopes.conditions, &[Type::Bool]);
    }
    let environment = &scopes.expressions;
    for (index, validation) in items(&spec["validations"]).enumerate() {
        let field = |name: &str| format!("spec.validations[{index}].{name}");
        check(field("expression"), text(&validation["expression"]), environment, &[Type::Bool]);
        let message = text(&validation["messageExpression"]);
        if !message.is_empty() {
            check(field("messageExpression"), message, environment, &[Type::String]);
        }
    }
    for (index, annotation) in items(&spec["auditAnnotations"]).enumerate() {
        let field = format!("spec.auditAnnotations[{index}].valueExpression");
        check(field, text(&annotation["valueExpression"]), environment, &[Type::String, Type::Null]);
    }
    for (index, mutation) in items(&spec["mutations"]).enumerate() {
        let (patch, source) = Patch::of(mutation);
        let name = if patch == Patch::Json { "jsonPatch" } else { "applyConfiguration" };
        check(format!("spec.mutations[{index}].{name}.expression"), source, environment, &[patch.wanted()]);
    }
    faults
}

fn tell(field: String, source: &str, program: &Compiled, faults: &mut Vec<Fault>) {
    // That an expression is missing is told elsewhere.
    if let (Err(why), false) = (program, source.trim().is_empty()) {
        faults.push(Fault { field, source: source.to_owned(), why: why.clone() });
    }
}

fn items(list: &Json) -> impl Iterator<Item = &Json> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: &Json, object: &Type, expected: &[(&str, &str)]) {
        let told = faults(spec, object, &Type::Dyn);
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (fault, (field, why)) in told.iter().zip(expected) {
            assert!(fault.field == *field && fault.why.contains(why), "{fault:?} is not {field}: {why}");
        }
    }

    #[test]
    fn expressions_are_checked_in_their_scope() {
        check(
            &json!({
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a + 1"}],
                "matchConditions": [{"name": "m", "expression": "request.operation == 'CREATE'"}],
                "validations": [{"expression": "variables.b == 2 && params.data.x == 'y'",
                    "messageExpression": "'b is ' + string(variables.b)"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "'v'"}],
            }),
            &Type::Dyn,
            &[],
        );
        check(
            &json!({
                "variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}],
                "matchConditions": [{"name": "m", "expression": "variables.b == 1"}],
                "validations": [{"expression": "request.nope == 1", "messageExpression": "1"},
                    {"expression": "params.x == 1"}, {"expression": "1"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "1"}],
            }),
            &Type::Dyn,
            &[
                ("spec.variables[0].expression", "undeclared reference to 'variables'"),
                ("spec.matchConditions[0].expression", "undeclared reference to 'variables'"),
                ("spec.validations[0].expression", "undefined field 'nope'"),
                ("spec.validations[0].messageExpression", "must evaluate to string"),
                ("spec.validations[1].expression", "undeclared reference to 'params'"),
                ("spec.validations[2].expression", "must evaluate to bool"),
                ("spec.auditAnnotations[0].valueExpression", "must evaluate to string"),
            ],
        );
    }

    #[test]
    fn mutations_have_types() {
        let apply = |source: &str| json!({"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}}]});
        let patch = |source: &str| json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": source}}]});
        const APPLY: &str = "spec.mutations[0].applyConfiguration.expression";
        const PATCH: &str = "spec.mutations[0].jsonPatch.expression";
        let any = Type::Dyn;
        check(&apply("Object{spec: Object.spec{replicas: 1}}"), &any, &[]);
        check(&apply("{'spec': 1}"), &any, &[(APPLY, "must evaluate to Object")]);
        check(&patch("[JSONPatch{op: 'add', path: '/a', value: 1}]"), &any, &[]);
        check(&patch("[JSONPatch{nope: 'add'}]"), &any, &[(PATCH, "undefined field 'nope'")]);
        check(&patch("'x'"), &any, &[(PATCH, "must evaluate to list(JSONPatch)")]);
    }

    #[test]
    fn what_is_known_of_objects_tells_more() {
        let resource = api::registry::Registry::builtin().resource("apps", "v1", "deployments");
        let deployment = crate::schema::builtin(resource.as_ref().and_then(|resource| resource.schema()));
        let spec = json!({"validations": [
            {"expression": "object.replicas > 1"},
            {"expression": "object.spec.replicas > '0'"},
            {"expression": "object.metadata.labels['a'] == 'b' && object.spec.template.spec.containers.all(c, c.name != '')"},
        ]});
        check(
            &spec,
            &deployment,
            &[
                ("spec.validations[0].expression", "ERROR: <input>:1:7: undefined field 'replicas'"),
                (
                    "spec.validations[1].expression",
                    "no matching overload for '_>_' applied to '(int, string)'",
                ),
            ],
        );
    }
}
