//! Calls: which overloads the arguments fit, and what type the result has.

use std::collections::HashMap;

use super::Checker;
use crate::ast::{Call, Expr, Kind};
use crate::functions::{Overload, overloads};
use crate::parse::dotted;
use crate::types::{ListType, MapType, Type};

impl Checker<'_> {
    pub(super) fn call(&mut self, node: &mut Expr) -> Type {
        let at = node.at;
        let Kind::Call(call) = &mut node.kind else { return Type::Dyn };
        self.qualify(call);
        let arguments: Vec<Type> = call.arguments.iter_mut().map(|argument| self.infer(argument)).collect();
        let candidates = overloads(&call.function);
        if candidates.is_empty() {
            let message = format!("undeclared reference to '{}' (in container '')", call.function);
            self.issue(at, message);
            return Type::Dyn;
        }
        self.overload(at, call, candidates, &arguments)
    }

    /// `sets.contains(..)` is a function of a namespace, unless `sets` is a variable.
    fn qualify(&self, call: &mut Call) {
        if !call.member {
            return;
        }
        let Some(namespace) = call.arguments.first().and_then(dotted) else { return };
        let name = format!("{namespace}.{}", call.function);
        if !self.is_variable(&namespace) && !overloads(&name).is_empty() {
            call.function = name;
            call.member = false;
            call.arguments.remove(0);
        }
    }

    fn overload(&mut self, at: u32, call: &Call, candidates: &[Overload], arguments: &[Type]) -> Type {
        let mut result: Option<Type> = None;
        for candidate in candidates {
            if candidate.member != call.member || candidate.parameters.len() != arguments.len() {
                continue;
            }
            let mut open = HashMap::new();
            let mut instance = |of: &Type, checker: &mut Self| checker.instance(of, &mut open);
            let parameters: Vec<Type> =
                candidate.parameters.iter().map(|parameter| instance(parameter, self)).collect();
            let returned = instance(&candidate.result, self);
            let unifier = &mut self.unifier;
            let fit = |unifier: &mut super::Unifier| {
                parameters.iter().zip(arguments).all(|(to, from)| unifier.assignable(to, from))
            };
            match &result {
                None => {
                    if unifier.attempt(fit) {
                        result = Some(returned);
                    }
                }
                Some(first) => {
                    // Several fit, since an argument may be anything: so may be the result.
                    let first = unifier.known(first);
                    let other = unifier.probe(|unifier| fit(unifier).then(|| unifier.known(&returned)));
                    if other.is_some_and(|other| other != first) {
                        return Type::Dyn;
                    }
                }
            }
        }
        result.unwrap_or_else(|| {
            let told: Vec<String> = arguments.iter().map(|of| self.unifier.known(of).to_string()).collect();
            let applied = match (call.member, told.split_first()) {
                (true, Some((target, rest))) => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", told.join(", ")),
            };
            let function = &call.function;
            self.issue(at, format!("found no matching overload for '{function}' applied to '{applied}'"));
            Type::Dyn
        })
    }

    /// A declared type with variables of this call for its parameters.
    fn instance(&mut self, of: &Type, open: &mut HashMap<char, Type>) -> Type {
        match of {
            Type::Parameter(name) => match open.get(name) {
                Some(variable) => variable.clone(),
                None => {
                    let variable = self.unifier.fresh();
                    open.insert(*name, variable.clone());
                    variable
                }
            },
            Type::List(list) => {
                let mut element = list.element.clone();
                element.of = self.instance(&element.of, open);
                Type::List(ListType { element, kind: list.kind.clone() }.into())
            }
            Type::Map(map) => {
                let (mut key, mut value) = (map.key.clone(), map.value.clone());
                key.of = self.instance(&key.of, open);
                value.of = self.instance(&value.of, open);
                Type::Map(MapType { key, value }.into())
            }
            Type::Optional(inner) => Type::optional(self.instance(inner, open)),
            Type::Type(inner) => Type::Type(self.instance(inner, open).into()),
            other => other.clone(),
        }
    }
}
