//! A policy, compiled.

use std::borrow::Cow;

use api::gvk::GroupVersionKind;
use expressions::Type;
pub use expressions::policy::{Compiled, Patch};
use expressions::policy::{Scopes, compiled};
use serde_json::Value;

use crate::admission::cel::Conditions;
use crate::admission::matching::Criteria;
use crate::admission::objects::items;

/// A policy. One whose expressions do not compile was refused when it was written, unless by an older server.
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

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Policy {
    pub fn read(name: &str, object: &Value) -> Self {
        let spec = &object["spec"];
        let Scopes { conditions, expressions, variables } = Scopes::of(spec, &Type::Dyn, &Type::Dyn);
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
            let (patch, source) = Patch::of(mutation);
            let program = compiled(source, &expressions, &[patch.wanted()]);
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
