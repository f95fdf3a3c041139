//! Expressions and what they give: the language, Kubernetes' libraries by their documentation's examples, mistakes
//! that the compiler finds, and the limits.

mod hostile;
mod language;
mod libraries;
mod mistakes;
mod schemas;

use expressions::{Bindings, Budget, Environment, Program, Value};

/// The value of an expression as JSON, or what went wrong.
fn outcome(source: &str) -> Result<serde_json::Value, String> {
    let program = Program::compile(source, &Environment::kubernetes()).map_err(|error| error.to_string())?;
    let value = program.evaluate(&Bindings::new(), &mut Budget::default());
    value.and_then(|value| value.to_json()).map_err(|error| error.to_string())
}

#[track_caller]
fn holds(source: &str) {
    assert_eq!(outcome(source), Ok(true.into()), "{source}");
}

#[track_caller]
fn fails(source: &str, expected: &str) {
    match outcome(source) {
        Err(error) => assert!(error.contains(expected), "{source}: {error}"),
        Ok(value) => panic!("{source} gives {value}, expected: {expected}"),
    }
}

/// The value of an expression about `self`, which is taken as JSON says.
fn about(json: &serde_json::Value, source: &str) -> Result<serde_json::Value, String> {
    let environment = Environment::kubernetes().with("self", expressions::Type::Dyn);
    let program = Program::compile(source, &environment).map_err(|error| error.to_string())?;
    let mut variables = Bindings::new();
    variables.set("self", Value::from_json(json));
    let value = program.evaluate(&variables, &mut Budget::default());
    value.and_then(|value| value.to_json()).map_err(|error| error.to_string())
}
