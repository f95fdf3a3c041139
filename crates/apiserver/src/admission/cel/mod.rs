//! Expressions in admission: what they know of a request, and how they are evaluated.
//!
//! Evaluation does no I/O. When an expression asks whether somebody may do something, it stops; the decision is
//! fetched, and it is evaluated again with what is known by then.

mod authorizer;
mod conditions;
mod facts;

use std::sync::Arc;

use expressions::{Budget, EvalError, Program, Value, Variables};

use crate::UserInfo;
use crate::authz::Authorizer;

pub use authorizer::Decisions;
pub use conditions::{Conditions, Verdict};
pub use facts::{Facts, Scope, described, of_version};

/// More checks than an expression could pay for.
const MAX_CHECKS: usize = 64;

/// The value of an expression about a request.
pub async fn evaluate<'a>(
    program: &Program,
    variables: &(dyn Variables<'a> + Sync),
    decisions: &Arc<Decisions>,
    authorizer: &Authorizer,
    user: &UserInfo,
    budget: &mut Budget,
) -> Result<Value<'a>, EvalError> {
    let remaining = budget.remaining();
    for _ in 0..MAX_CHECKS {
        match program.evaluate(variables, budget) {
            Err(EvalError::Pending(check)) => {
                decisions.fetch(&check, authorizer, user).await;
                budget.restore(remaining);
            }
            evaluated => return evaluated,
        }
    }
    Err(EvalError::OutOfBudget)
}
