//! Kubernetes' authorization library; decisions are the host's.

use api::validation::names;

use super::{Evaluated, Library, mismatch};
use crate::authorizer::{Check, Question, Stage};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Opaque, Value};

pub(super) const LIBRARY: Library = &[
    (&["Authorizer . path(string) -> PathCheck"], path),
    (&["Authorizer . group(string) -> GroupCheck"], group),
    (&["Authorizer . serviceAccount(string, string) -> Authorizer"], service_account),
    (&["GroupCheck . resource(string) -> ResourceCheck"], resource),
    (&["ResourceCheck . subresource(string) -> ResourceCheck"], subresource),
    (&["ResourceCheck . namespace(string) -> ResourceCheck"], namespace),
    (&["ResourceCheck . name(string) -> ResourceCheck"], name),
    (&["ResourceCheck . fieldSelector(string) -> ResourceCheck"], field_selector),
    (&["ResourceCheck . labelSelector(string) -> ResourceCheck"], label_selector),
    (&["PathCheck . check(string) -> Decision", "ResourceCheck . check(string) -> Decision"], check),
    (&["Decision . allowed() -> bool"], allowed),
    (&["Decision . reason() -> string"], reason),
    (&["Decision . errored() -> bool"], errored),
    (&["Decision . error() -> string"], error),
];

/// The question with one thing more spelled out.
fn spelled<'a>(
    arguments: &[Value<'a>],
    stage: Stage,
    spell: impl FnOnce(&mut Check, String),
) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Question(question)), Value::String(text)] = arguments else {
        return mismatch();
    };
    let mut question = Question { stage, ..(**question).clone() };
    spell(&mut question.check, text.to_string());
    Ok(Value::opaque(question))
}

fn required(arguments: &[Value<'_>], what: &str) -> Result<(), EvalError> {
    match arguments {
        [_, Value::String(text)] if text.trim().is_empty() => {
            Err(EvalError::failed(format!("{what} must not be empty")))
        }
        _ => Ok(()),
    }
}

fn path<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    required(arguments, "path")?;
    spelled(arguments, Stage::Path, |check, path| check.path = Some(path))
}

fn group<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    spelled(arguments, Stage::Group, |check, group| check.group = group)
}

fn service_account<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Question(question)), Value::String(namespace), Value::String(name)] =
        arguments
    else {
        return mismatch();
    };
    if let Some(problem) = names::dns1123_subdomain(name) {
        return Err(EvalError::failed(format!("Invalid service account name: {problem}")));
    }
    if let Some(problem) = names::dns1123_label(namespace) {
        return Err(EvalError::failed(format!("Invalid service account namespace: {problem}")));
    }
    let mut question = (**question).clone();
    question.check.service_account = Some((namespace.to_string(), name.to_string()));
    Ok(Value::opaque(question))
}

fn resource<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    required(arguments, "resource")?;
    spelled(arguments, Stage::Resource, |check, resource| check.resource = resource)
}

fn subresource<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    spelled(arguments, Stage::Resource, |check, subresource| check.subresource = subresource)
}

fn namespace<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    spelled(arguments, Stage::Resource, |check, namespace| check.namespace = namespace)
}

fn name<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    spelled(arguments, Stage::Resource, |check, name| check.name = name)
}

fn field_selector<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    spelled(arguments, Stage::Resource, |check, selector| check.field_selector = selector)
}

fn label_selector<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    spelled(arguments, Stage::Resource, |check, selector| check.label_selector = selector)
}

fn check<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Question(question)), Value::String(verb)] = arguments else {
        return mismatch();
    };
    let check = Check { verb: verb.to_string(), ..question.check.clone() };
    match question.authorizer.decide(&check) {
        Some(decision) => Ok(Value::Opaque(Opaque::Decision(decision.into()))),
        None => Err(EvalError::Pending(check.into())),
    }
}

fn allowed<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Decision(decision))] = arguments else { return mismatch() };
    Ok(Value::Bool(decision.allowed))
}

fn reason<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Decision(decision))] = arguments else { return mismatch() };
    Ok(Value::string(decision.reason.as_str()))
}

fn errored<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Decision(decision))] = arguments else { return mismatch() };
    Ok(Value::Bool(decision.error.is_some()))
}

fn error<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Decision(decision))] = arguments else { return mismatch() };
    Ok(Value::string(decision.error.clone().unwrap_or_default()))
}
