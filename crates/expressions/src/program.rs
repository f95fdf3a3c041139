//! A compiled expression.

use std::sync::Arc;

use crate::ast::{Expr, Kind};
use crate::budget::Budget;
use crate::environment::Environment;
use crate::error::{CompileError, EvalError};
use crate::run::{Interpreter, Variables};
use crate::types::Type;
use crate::value::Value;
use crate::{check, estimate, parse};

/// Cheap to clone; may be evaluated by many threads at once.
#[derive(Clone, Debug)]
pub struct Program {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: String,
    expression: Expr,
    result: Type,
    estimate: u64,
}

impl Program {
    pub fn compile(source: &str, environment: &Environment) -> Result<Self, CompileError> {
        let failed = |issue| CompileError::new(source, &[issue]);
        let (mut expression, ids) = parse::parse(source).map_err(failed)?;
        let types = check::check(&mut expression, ids, environment)
            .map_err(|issues| CompileError::new(source, &issues))?;
        let result = types.get(expression.id as usize).cloned().unwrap_or(Type::Dyn);
        let estimate = estimate::cost(&expression, &types, environment);
        let inner = Inner { source: source.to_owned(), expression, result, estimate };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Compiles an expression whose value has to be of one of these types.
    pub fn compile_as(
        source: &str,
        environment: &Environment,
        wanted: &[Type],
    ) -> Result<Self, CompileError> {
        let program = Self::compile(source, environment)?;
        let result = program.result_type();
        if result.is_dyn() || wanted.contains(result) {
            return Ok(program);
        }
        let names: Vec<String> = wanted.iter().map(Type::to_string).collect();
        Err(CompileError::plain(format!("must evaluate to {}", names.join(" or "))))
    }

    pub fn source(&self) -> &str {
        &self.inner.source
    }

    pub fn result_type(&self) -> &Type {
        &self.inner.result
    }

    /// Whether the expression refers to this variable.
    pub fn mentions(&self, variable: &str) -> bool {
        let mut found = false;
        self.inner.expression.walk(&mut |node| {
            found |= matches!(&node.kind, Kind::Ident(name) if name == variable);
        });
        found
    }

    /// How many levels of nodes the expression has: what evaluation needs stack for.
    pub fn depth(&self) -> u32 {
        self.inner.expression.depth
    }

    /// What evaluation costs at most, by the sizes that the types of variables allow.
    pub fn estimated_cost(&self) -> u64 {
        self.inner.estimate
    }

    /// The value, within what is left of the budget.
    pub fn evaluate<'a>(
        &self,
        variables: &dyn Variables<'a>,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvalError> {
        budget.begin();
        self.evaluate_within(variables, budget)
    }

    /// The same as a part of another expression: what this one costs is that one's.
    pub fn evaluate_within<'a>(
        &self,
        variables: &dyn Variables<'a>,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvalError> {
        Interpreter::new(variables, budget).evaluate(&self.inner.expression)
    }
}

/// Variables that are there from the start.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<(String, Value<'a>)>,
}

impl<'a> Bindings<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set(&mut self, name: &str, value: Value<'a>) {
        match self.values.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = value,
            None => self.values.push((name.to_owned(), value)),
        }
    }
}

impl<'a> Variables<'a> for Bindings<'a> {
    fn get(&self, name: &str, _: &mut Budget) -> Result<Option<Value<'a>>, EvalError> {
        let found = self.values.iter().find(|(known, _)| known == name);
        Ok(found.map(|(_, value)| value.clone()))
    }
}
