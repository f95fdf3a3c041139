//! `matchConditions`: whether a request that rules and selectors let through is one to deal with after all.

use expressions::budget::{MATCH_CONDITIONS, PER_EXPRESSION};
use expressions::{Budget, Environment, EvalError, Program, Type, Variables};
use serde_json::Value as Json;

use super::{Facts, evaluate};
use crate::UserInfo;
use crate::admission::objects::items;
use crate::authz::Authorizer;

pub struct Conditions(Vec<Condition>);

struct Condition {
    expression: String,
    /// Or why it does not compile. Such were refused when they were written, unless by an older server.
    program: Result<Program, String>,
}

/// What conditions say.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Matches,
    /// The named condition is false.
    Excluded,
    /// None is false, but some could not be evaluated.
    Failed(String),
}

impl Conditions {
    pub fn read(list: &Json, environment: &Environment) -> Self {
        let condition = |condition: &Json| {
            let source = condition["expression"].as_str().unwrap_or_default();
            let program = Program::compile_as(source, environment, &[Type::Bool]);
            Condition {
                expression: source.to_owned(),
                program: program.map_err(|error| format!("compilation failed: {error}")),
            }
        };
        Self(items(list).map(condition).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One that is false excludes, whatever is wrong with others.
    pub async fn verdict<'a>(
        &self,
        facts: &'a Facts,
        scope: &(dyn Variables<'a> + Sync),
        authorizer: &Authorizer,
        user: &UserInfo,
    ) -> Verdict {
        let mut budget = Budget::new(PER_EXPRESSION, MATCH_CONDITIONS);
        let mut failures = Vec::new();
        for Condition { expression, program } in &self.0 {
            let evaluated = match program {
                Ok(program) => {
                    evaluate(program, scope, &facts.decisions, authorizer, user, &mut budget).await
                }
                Err(why) => Err(EvalError::Failed(why.clone())),
            };
            match evaluated.map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Verdict::Excluded,
                Ok(None) => failures.push(format!("expression '{expression}' did not evaluate to a boolean")),
                Err(error) => {
                    let spent = error.is_budget();
                    failures.push(format!("expression '{expression}' resulted in error: {error}"));
                    if spent && budget.remaining() == 0 {
                        break;
                    }
                }
            }
        }
        if failures.is_empty() { Verdict::Matches } else { Verdict::Failed(failures.join(", ")) }
    }
}
