//! Evaluation: a walk over the checked expression.
//!
//! Every node that is visited costs something and the depth of expressions is limited, so that evaluation ends.

mod aggregates;
mod comprehensions;
pub(crate) mod cost;

use crate::ast::{Call, Expr, Kind, Literal, Select};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::functions::{self, Evaluated};
use crate::value::{Text, Value};

/// Where variables come from. They may be evaluated when they are first asked for.
pub trait Variables<'a> {
    fn get(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>, EvalError>;
}

pub(crate) struct Interpreter<'p, 'v, 'a> {
    variables: &'v dyn Variables<'a>,
    budget: &'v mut Budget,
    /// Variables of comprehensions around the current node.
    locals: Vec<(&'p str, Value<'a>)>,
}

impl<'p, 'v, 'a> Interpreter<'p, 'v, 'a> {
    pub(crate) fn new(variables: &'v dyn Variables<'a>, budget: &'v mut Budget) -> Self {
        Self { variables, budget, locals: Vec::new() }
    }

    pub(crate) fn evaluate(&mut self, node: &'p Expr) -> Evaluated<'a> {
        match &node.kind {
            Kind::Literal(literal) => Ok(constant(literal)),
            Kind::Ident(name) => self.variable(name),
            Kind::Select(select) => self.select(select),
            Kind::Call(call) => self.call(call),
            Kind::Logic { all, terms } => self.logic(*all, terms),
            Kind::Conditional(parts) => self.conditional(parts),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct(literal) => self.structure(literal),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Bind(bind) => self.bind(bind),
        }
    }

    fn variable(&mut self, name: &str) -> Evaluated<'a> {
        self.budget.charge(1)?;
        if let Some((_, value)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return Ok(value.clone());
        }
        match self.variables.get(name, self.budget)? {
            Some(value) => Ok(value),
            None => Err(EvalError::failed(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&mut self, select: &'p Select) -> Evaluated<'a> {
        let operand = self.evaluate(&select.operand)?;
        if !select.test {
            self.budget.charge(1)?;
        }
        if let Value::Optional(held) = &operand {
            let found = held.as_deref().and_then(|held| match held {
                Value::Map(map) => map.field(&select.field),
                _ => None,
            });
            return Ok(match (select.test, found) {
                (true, found) => Value::Bool(found.is_some()),
                (false, Some(found @ Value::Optional(_))) => found,
                (false, found) => Value::Optional(found.map(Into::into)),
            });
        }
        let Value::Map(map) = &operand else {
            return Err(match operand {
                Value::Null => EvalError::NoSuchKey(select.field.clone()),
                _ => EvalError::NoSuchOverload,
            });
        };
        match (select.test, select.optional, map.field(&select.field)) {
            (true, _, found) => Ok(Value::Bool(found.is_some())),
            (_, true, found) => Ok(Value::Optional(found.map(Into::into))),
            (_, false, Some(found)) => Ok(found),
            (_, false, None) => Err(EvalError::NoSuchKey(select.field.clone())),
        }
    }

    fn call(&mut self, call: &'p Call) -> Evaluated<'a> {
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(self.evaluate(argument)?);
        }
        let overloads = functions::overloads(&call.function);
        // What an answer costs is known after it: that nothing gets out of hand before is the work's limit.
        self.budget.work(1)?;
        let result = functions::call(overloads, call.member, &arguments, self.budget)?;
        self.budget.charge(cost::of_call(&call.function, &arguments, &result))?;
        Ok(result)
    }

    /// An operand that decides makes up for errors of the others.
    fn logic(&mut self, all: bool, terms: &'p [Expr]) -> Evaluated<'a> {
        let mut failed = None;
        for term in terms {
            match self.evaluate(term) {
                Ok(Value::Bool(value)) if value != all => return Ok(Value::Bool(value)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::NoSuchOverload)),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
            self.budget.charge(1)?;
        }
        failed.map_or(Ok(Value::Bool(all)), Err)
    }

    fn conditional(&mut self, parts: &'p [Expr; 3]) -> Evaluated<'a> {
        let [condition, yes, no] = parts;
        match self.evaluate(condition)? {
            Value::Bool(true) => self.evaluate(yes),
            Value::Bool(false) => self.evaluate(no),
            _ => Err(EvalError::NoSuchOverload),
        }
    }
}

fn constant<'a>(literal: &Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Shared(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
        Literal::Type(of) => Value::Type(of.clone()),
    }
}
