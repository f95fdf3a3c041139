//! Types are inferred and names resolved before anything is evaluated, so that authors learn of mistakes when they
//! write a rule, not when it is applied.
//!
//! The rules are cel-spec's. Names with dots become what they mean: a variable whose name has dots, a function of a
//! namespace, or the selection of a field.

mod aggregates;
mod calls;
mod comprehensions;
mod lints;
mod literals;
mod names;
mod unify;

use crate::ast::{Expr, Kind, Literal};
use crate::environment::Environment;
use crate::error::Issue;
use crate::types::{Sized, Type};
use unify::Unifier;

/// The types of all nodes, by id.
pub(crate) fn check(
    expression: &mut Expr,
    ids: u32,
    environment: &Environment,
) -> Result<Vec<Type>, Vec<Issue>> {
    let types = vec![Type::Dyn; ids as usize];
    let mut checker =
        Checker { environment, unifier: Unifier::default(), locals: Vec::new(), types, issues: Vec::new() };
    checker.infer(expression);
    if !checker.issues.is_empty() {
        checker.issues.sort_by_key(|issue| issue.at);
        return Err(checker.issues);
    }
    let Checker { unifier, types, .. } = checker;
    let types: Vec<Type> = types.into_iter().map(|of| unifier.known(&of)).collect();
    let found = lints::check(expression, &types);
    if found.is_empty() { Ok(types) } else { Err(found) }
}

struct Checker<'e> {
    environment: &'e Environment,
    unifier: Unifier,
    /// Variables of comprehensions around the current node.
    locals: Vec<(String, Sized)>,
    types: Vec<Type>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, at: u32, message: impl Into<String>) {
        self.issues.push(Issue::new(at, message));
    }

    /// The type of a node; where something is wrong it is told, and the type is what fits everything.
    fn infer(&mut self, node: &mut Expr) -> Type {
        let of = match &mut node.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(_) | Kind::Select(_) => self.name(node),
            Kind::Call(_) => self.call(node),
            Kind::Logic { terms, .. } => {
                for term in terms {
                    self.expect(term, &Type::Bool);
                }
                Type::Bool
            }
            Kind::Conditional(parts) => self.conditional(node.at, parts),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct(literal) => self.structure(node.at, literal),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Bind(bind) => self.bind(bind),
        };
        if let Some(place) = self.types.get_mut(node.id as usize) {
            *place = of.clone();
        }
        of
    }

    fn expect(&mut self, node: &mut Expr, wanted: &Type) {
        let found = self.infer(node);
        self.compare(node.at, wanted, &found);
    }

    fn compare(&mut self, at: u32, wanted: &Type, found: &Type) -> bool {
        let fits = self.unifier.attempt(|unifier| unifier.assignable(wanted, found));
        if !fits {
            let (wanted, found) = (self.unifier.known(wanted), self.unifier.known(found));
            self.issue(at, format!("expected type '{wanted}' but found '{found}'"));
        }
        fits
    }

    fn conditional(&mut self, at: u32, parts: &mut [Expr; 3]) -> Type {
        let [condition, yes, no] = parts;
        let condition = self.infer(condition);
        let (yes, no) = (self.infer(yes), self.infer(no));
        let result = self.unifier.fresh();
        let fits = self.unifier.attempt(|unifier| {
            unifier.assignable(&Type::Bool, &condition)
                && unifier.assignable(&result, &yes)
                && unifier.assignable(&result, &no)
        });
        if !fits {
            let told = |of: &Type| self.unifier.known(of);
            let (condition, yes, no) = (told(&condition), told(&yes), told(&no));
            let message =
                format!("found no matching overload for '_?_:_' applied to '({condition}, {yes}, {no})'");
            self.issue(at, message);
            return Type::Dyn;
        }
        result
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
        Literal::Type(of) => Type::Type(of.clone().into()),
    }
}
