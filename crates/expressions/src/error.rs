//! What is wrong with an expression, or with its evaluation.

use std::fmt;

use crate::authorizer::Check;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub at: u32,
    pub message: String,
}

impl Issue {
    pub(crate) fn new(at: u32, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    pub(crate) fn syntax(at: u32, message: impl fmt::Display) -> Self {
        Self::new(at, format!("Syntax error: {message}"))
    }
}

/// Why an expression does not compile: as users of CEL know it, with the place marked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CompileError {
    text: String,
}

/// So many issues are told.
const TOLD: usize = 100;

impl CompileError {
    pub(crate) fn new(source: &str, issues: &[Issue]) -> Self {
        let told: Vec<String> = issues.iter().take(TOLD).map(|issue| marked(source, issue)).collect();
        Self { text: told.join("\n") }
    }

    /// The expression is of another type than it has to be.
    pub(crate) fn plain(text: String) -> Self {
        Self { text }
    }
}

fn marked(source: &str, issue: &Issue) -> String {
    let at = (issue.at as usize).min(source.len());
    let before = source.get(..at).unwrap_or_default();
    let line_number = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = source[line_start..].lines().next().unwrap_or_default();
    let column = before[line_start..].chars().count();
    let dots = ".".repeat(column);
    format!("ERROR: <input>:{line_number}:{}: {}\n | {line}\n | {dots}^", column + 1, issue.message)
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    #[error("{0}")]
    Failed(String),
    #[error("no such key: {0}")]
    NoSuchKey(String),
    #[error("no such overload")]
    NoSuchOverload,
    /// The expression has used up what it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    OutOfBudget,
    /// The decision on an authorization check has to be fetched first; then the expression is evaluated again.
    #[error("the decision on an authorization check is not known yet")]
    Pending(Box<Check>),
}

impl EvalError {
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::Failed(message.to_string())
    }

    pub fn is_budget(&self) -> bool {
        matches!(self, Self::OutOfBudget)
    }

    /// Whether this ends the evaluation, whatever other operands of `&&` and `||` are.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::OutOfBudget | Self::Pending(_))
    }
}
