//! A policy's own variables: evaluated when they are first used, once for each object and parameter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use expressions::{Budget, EvalError, Value, Variables};
use parking_lot::Mutex;

use super::spec::Policy;
use crate::admission::cel::Scope;

/// Levels of expressions that are under evaluation at once, variables within variables.
const MAX_DEPTH: u32 = 200;

pub struct Composed<'a> {
    scope: Scope<'a>,
    policy: &'a Policy,
    known: Mutex<HashMap<&'a str, Result<Value<'a>, EvalError>>>,
    depth: AtomicU32,
}

impl<'a> Composed<'a> {
    pub fn new(scope: Scope<'a>, policy: &'a Policy) -> Self {
        Self { scope, policy, known: Mutex::default(), depth: AtomicU32::new(0) }
    }
}

impl<'a> Variables<'a> for Composed<'a> {
    fn get(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>, EvalError> {
        let Some((name, program)) = self.policy.variables.iter().find(|(known, _)| known == name) else {
            return self.scope.get(name, budget);
        };
        if let Some(known) = self.known.lock().get(name.as_str()) {
            return known.clone().map(Some);
        }
        let program = program.as_ref().map_err(|why| EvalError::Failed(why.clone()))?;
        let depth = program.depth();
        let evaluated = match self.depth.fetch_add(depth, Ordering::Relaxed) + depth {
            within if within <= MAX_DEPTH => program.evaluate_within(self, budget),
            _ => Err(EvalError::Failed("variables are nested too deeply".to_owned())),
        };
        self.depth.fetch_sub(depth, Ordering::Relaxed);
        let evaluated = match evaluated {
            // Not the value's fault: the next time there may be one.
            Err(error @ (EvalError::Pending(_) | EvalError::OutOfBudget)) => return Err(error),
            Err(error) => {
                let short = name.strip_prefix("variables.").unwrap_or(name);
                Err(EvalError::Failed(format!("composited variable \"{short}\" fails to evaluate: {error}")))
            }
            value => value,
        };
        self.known.lock().insert(name, evaluated.clone());
        evaluated.map(Some)
    }
}
