//! What an evaluation may use: Kubernetes' cost units, and the work that is really done.
//!
//! Costs follow upstream's tracking, which users reckon with. They count some things as one that take time in
//! proportion to their size (comparing two large objects, joining lists), so bytes and nodes that are touched or made
//! are counted too, against a limit that no sensible expression comes near.

use std::collections::HashMap;
use std::sync::Arc;

use api::structural::pattern;
use regex::Regex;

use crate::error::EvalError;

/// What one expression may cost.
pub const PER_EXPRESSION: u64 = 1_000_000;
/// What all expressions about one object may cost together.
pub const TOTAL: u64 = 10_000_000;
/// What `matchConditions` of one webhook or policy may cost together.
pub const MATCH_CONDITIONS: u64 = TOTAL / 4;

/// Bytes or nodes that one expression may touch or make: well under a second.
const WORK: u64 = 64 << 20;
/// Patterns that are kept compiled.
const PATTERNS: usize = 64;

#[derive(Debug)]
pub struct Budget {
    per_expression: u64,
    total: u64,
    left: u64,
    work: u64,
    /// Compiling a pattern takes longer than matching it, and rules are evaluated for each element of a list.
    patterns: HashMap<String, Arc<Regex>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(PER_EXPRESSION, TOTAL)
    }
}

impl Budget {
    pub fn new(per_expression: u64, total: u64) -> Self {
        Self { per_expression, total, left: 0, work: 0, patterns: HashMap::new() }
    }

    /// What all further expressions may cost together.
    pub fn remaining(&self) -> u64 {
        self.total
    }

    /// Takes back what an evaluation has cost that has to be done again.
    pub fn restore(&mut self, remaining: u64) {
        self.total = remaining;
    }

    /// Begins an expression.
    pub(crate) fn begin(&mut self) {
        self.left = self.per_expression;
        self.work = WORK;
    }

    pub(crate) fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        if cost > self.left || cost > self.total {
            self.left = 0;
            return Err(EvalError::OutOfBudget);
        }
        self.left -= cost;
        self.total -= cost;
        Ok(())
    }

    /// Counts bytes or nodes that are about to be touched or made.
    pub(crate) fn work(&mut self, amount: usize) -> Result<(), EvalError> {
        let left = self.work.checked_sub(amount as u64);
        self.work = left.unwrap_or(0);
        left.map(|_| ()).ok_or(EvalError::OutOfBudget)
    }

    /// A regular expression in RE2's syntax.
    pub(crate) fn pattern(&mut self, text: &str) -> Result<Arc<Regex>, EvalError> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(known.clone());
        }
        // Compiling takes long, compared with all else.
        self.work(text.len().saturating_mul(64) + (128 << 10))?;
        let compiled = pattern::compile(text)
            .map_err(|why| EvalError::failed(format!("error parsing regexp: {why}")))?;
        let compiled = Arc::new(compiled);
        if self.patterns.len() >= PATTERNS {
            self.patterns.clear();
        }
        self.patterns.insert(text.to_owned(), compiled.clone());
        Ok(compiled)
    }
}
