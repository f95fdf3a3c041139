//! A policy, compiled.

use std::borrow::Cow;

use api::gvk::GroupVersionKind;
use expressions::{Environment, Program, Type};
use serde_json::Value;

use crate::admission::cel::{Conditions, environment};
use crate::admission::matching::Criteria;
use crate::admission::objects::items;

/// A program, or why there is none. Such policies were refused when they were written, unless by an older server.
pub type Compiled = Result<Program, String>;

pub struct Policy {
    pub name: String,
    pub criteria: Result<Criteria, String>,
    pub param_kind: Option<GroupVersionKind>,
    pub conditions: Conditions,
    /// By the names that expressions use: `variables.x`.
    pub variables: Vec<(String, Compiled)>,
    pub validations: Vec<Validation>,
    pub annotations: Vec<(String, Compiled)>,
    pub mutations: Vec<Mutation>,
    /// What cannot be evaluated counts as refused.
    pub fails: bool,
    pub reinvoked: bool,
}

pub struct Validation {
    pub expression: String,
    pub program: Compiled,
    pub message: String,
    pub message_expression: Option<Compiled>,
    pub reason: Cow<'static, str>,
}

pub struct Mutation {
    pub patch: Patch,
    pub expression: String,
    pub program: Compiled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    Apply,
    Json,
}

/// The variables of a policy's expressions, for types of objects and parameters that are known or not.
pub struct Scopes {
    /// `matchConditions`: without the policy's own variables.
    pub conditions: Environment,
    /// The others.
    pub expressions: Environment,
    pub variables: Vec<(String, Compiled)>,
}

impl Scopes {
    pub fn of(spec: &Value, object: &Type, params: &Type, mutating: bool) -> Self {
        let params = spec["paramKind"].is_object().then_some(params);
        let conditions = environment(object, params);
        let mut expressions = conditions.clone();
        if mutating {
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

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Compiles an expression; without `wanted` its value may be anything.
pub fn compiled(source: &str, environment: &Environment, wanted: &[Type]) -> Compiled {
    let program = match wanted {
        [] => Program::compile(source, environment),
        wanted => Program::compile_as(source, environment, wanted),
    };
    program.map_err(|error| format!("compilation failed: {error}"))
}

/// What an ApplyConfiguration, and what a JSON patch has to evaluate to.
pub fn mutation_type(patch: Patch) -> Type {
    let named = |name: &str| {
        let of = expressions::types::ObjectType {
            name: name.into(),
            fields: Default::default(),
            constructible: true,
        };
        Type::Object(of.into())
    };
    match patch {
        Patch::Apply => named(expressions::OBJECT),
        Patch::Json => Type::list(named(expressions::JSON_PATCH)),
    }
}

impl Policy {
    pub fn read(name: &str, object: &Value) -> Self {
        let spec = &object["spec"];
        let mutating = spec["mutations"].is_array();
        let Scopes { conditions, expressions, variables } =
            Scopes::of(spec, &Type::Dyn, &Type::Dyn, mutating);
        let validation = |validation: &Value| Validation {
            expression: text(&validation["expression"]).trim().to_owned(),
            program: compiled(text(&validation["expression"]), &expressions, &[Type::Bool]),
            message: text(&validation["message"]).trim().to_owned(),
            message_expression: validation["messageExpression"]
                .as_str()
                .filter(|source| !source.trim().is_empty())
                .map(|source| compiled(source, &expressions, &[Type::String])),
            reason: match text(&validation["reason"]) {
                "" => "Invalid".into(),
                reason => reason.to_owned().into(),
            },
        };
        let annotation = |annotation: &Value| {
            let program =
                compiled(text(&annotation["valueExpression"]), &expressions, &[Type::String, Type::Null]);
            (text(&annotation["key"]).to_owned(), program)
        };
        let mutation = |mutation: &Value| {
            let (patch, source) = match text(&mutation["patchType"]) {
                "JSONPatch" => (Patch::Json, text(&mutation["jsonPatch"]["expression"])),
                _ => (Patch::Apply, text(&mutation["applyConfiguration"]["expression"])),
            };
            let program = compiled(source, &expressions, &[mutation_type(patch)]);
            Mutation { patch, expression: source.trim().to_owned(), program }
        };
        Self {
            name: name.to_owned(),
            criteria: Criteria::read(&spec["matchConstraints"]),
            param_kind: param_kind(&spec["paramKind"]),
            conditions: Conditions::read(&spec["matchConditions"], &conditions),
            validations: items(&spec["validations"]).map(validation).collect(),
            annotations: items(&spec["auditAnnotations"]).map(annotation).collect(),
            mutations: items(&spec["mutations"]).map(mutation).collect(),
            variables,
            fails: text(&spec["failurePolicy"]) != "Ignore",
            reinvoked: text(&spec["reinvocationPolicy"]) == "IfNeeded",
        }
    }
}

fn param_kind(kind: &Value) -> Option<GroupVersionKind> {
    let (group, version) = match text(&kind["apiVersion"]) {
        "" => return None,
        text => text.split_once('/').unwrap_or(("", text)),
    };
    Some(GroupVersionKind::new(group, version, text(&kind["kind"])))
}
