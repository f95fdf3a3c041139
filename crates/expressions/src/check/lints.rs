//! What an expression is looked at for when all its types fit: constants that can only be wrong, and lists and maps
//! whose parts are not of one type. What is formatted may be a mixture.

use std::collections::HashSet;

use super::literals;
use crate::ast::{Call, Expr, Kind};
use crate::error::Issue;
use crate::functions::template;
use crate::types::Type;

pub(super) fn check(expression: &Expr, types: &[Type]) -> Vec<Issue> {
    let mut lints = Lints { types, mixtures: HashSet::new(), issues: Vec::new() };
    expression.walk(&mut |node| lints.node(node));
    lints.issues.sort_by_key(|issue| issue.at);
    lints.issues
}

struct Lints<'e> {
    types: &'e [Type],
    /// Nodes within what is formatted.
    mixtures: HashSet<u32>,
    issues: Vec<Issue>,
}

impl Lints<'_> {
    fn node(&mut self, node: &Expr) {
        match &node.kind {
            Kind::Call(call) => {
                if let Err((at, message)) = literals::check(call) {
                    self.issues.push(Issue::new(at, message));
                }
                if call.member && call.function == "format" {
                    node.walk(&mut |within| _ = self.mixtures.insert(within.id));
                    self.formatted(node.at, call);
                }
            }
            Kind::List(elements) if !self.mixtures.contains(&node.id) => {
                self.alike(elements.iter().map(|element| (&element.value, element.optional)));
            }
            Kind::Map(entries) if !self.mixtures.contains(&node.id) => {
                self.alike(entries.iter().map(|entry| (&entry.key, false)));
                self.alike(entries.iter().map(|entry| (&entry.value, entry.optional)));
            }
            _ => {}
        }
    }

    fn type_of(&self, node: &Expr) -> Type {
        self.types.get(node.id as usize).cloned().unwrap_or(Type::Dyn)
    }

    /// The first part says what the others are to be; one that is not is told.
    fn alike<'p>(&mut self, parts: impl Iterator<Item = (&'p Expr, bool)>) {
        let mut first: Option<Type> = None;
        for (part, optional) in parts {
            let found = match self.type_of(part) {
                Type::Optional(inner) if optional => (*inner).clone(),
                found => found,
            };
            match &first {
                None => first = Some(found),
                Some(first) if same(first, &found) => {}
                Some(first) => {
                    let message = format!("expected type '{first}' but found '{found}'");
                    self.issues.push(Issue::new(part.at, message));
                    return;
                }
            }
        }
    }

    /// A template that is written out, with what is put into it.
    fn formatted(&mut self, at: u32, call: &Call) {
        let [target, values] = call.arguments.as_slice() else { return };
        let (Kind::Literal(crate::ast::Literal::String(text)), Kind::List(elements)) =
            (&target.kind, &values.kind)
        else {
            return;
        };
        let mut elements = elements.iter().enumerate();
        let mut used = 0;
        for clause in template::clauses(text) {
            let clause = match clause {
                Ok(template::Clause::Text(_)) => continue,
                Ok(template::Clause::Verb(verb)) => verb,
                Err(message) => return self.issues.push(Issue::new(at, message)),
            };
            let Some((number, element)) = elements.next() else {
                return self.issues.push(Issue::new(at, format!("index {used} out of range")));
            };
            used = number + 1;
            let found = self.type_of(&element.value);
            if let Some(wanted) = clause.refuses(&found) {
                let told = template::called(&found);
                let message = format!("error during formatting: {wanted}, was given {told}");
                return self.issues.push(Issue::new(element.value.at, message));
            }
        }
        let given = used + elements.count();
        if given > used {
            let message =
                format!("too many arguments supplied to string.format (expected {used}, got {given})");
            self.issues.push(Issue::new(at, message));
        }
    }
}

/// Whether two types read alike. What is not known fits everything: policies put parts of objects beside constants.
fn same(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn, _) | (_, Type::Dyn) => true,
        (Type::List(a), Type::List(b)) => same(&a.element.of, &b.element.of),
        (Type::Map(a), Type::Map(b)) => same(&a.key.of, &b.key.of) && same(&a.value.of, &b.value.of),
        (Type::Optional(a), Type::Optional(b)) => same(a, b),
        (a, b) => a.to_string() == b.to_string(),
    }
}
