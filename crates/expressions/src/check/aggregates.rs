//! Lists, maps and objects that expressions write out. Elements have one type, as Kubernetes demands.

use super::Checker;
use crate::ast::{Element, Entry, Expr, Struct};
use crate::types::Type;

impl Checker<'_> {
    pub(super) fn list(&mut self, elements: &mut [Element]) -> Type {
        let of = self.unifier.fresh();
        for element in elements {
            self.member(&of, &mut element.value, element.optional);
        }
        if self.mixed {
            return Type::list(Type::Dyn);
        }
        Type::list(of)
    }

    /// A part of an aggregate that has to be like the others; `?` parts are optional values of such.
    fn member(&mut self, of: &Type, value: &mut Expr, optional: bool) {
        let mut found = self.infer(value);
        if optional {
            let inner = self.unifier.fresh();
            let wanted = Type::optional(inner.clone());
            self.compare(value.at, &wanted, &found);
            found = inner;
        }
        if !self.mixed {
            self.compare(value.at, of, &found);
        }
    }

    pub(super) fn map(&mut self, entries: &mut [Entry]) -> Type {
        let (key, value) = (self.unifier.fresh(), self.unifier.fresh());
        for entry in entries {
            let found = self.infer(&mut entry.key);
            let allowed = [Type::Dyn, Type::Bool, Type::Int, Type::Uint, Type::String];
            match self.unifier.resolved(&found) {
                Type::Variable(_) => {}
                known if allowed.contains(&known) => {}
                known => self.issue(entry.key.at, format!("unsupported key type: {known}")),
            }
            if !self.mixed {
                self.compare(entry.key.at, &key, &found);
            }
            self.member(&value, &mut entry.value, entry.optional);
        }
        if self.mixed {
            return Type::map(Type::Dyn, Type::Dyn);
        }
        Type::map(key, value)
    }

    pub(super) fn structure(&mut self, at: u32, literal: &mut Struct) -> Type {
        let Some(of) = self.environment.constructible(&literal.name) else {
            let message = format!("undeclared reference to '{}' (in container '')", literal.name);
            self.issue(at, message);
            return Type::Dyn;
        };
        for field in &mut literal.fields {
            let declared = match of.fields.get(&field.name) {
                Some(declared) => declared.value.of.clone(),
                None if of.fields.is_empty() => Type::Dyn,
                None => {
                    self.issue(field.at, format!("undefined field '{}'", field.name));
                    Type::Dyn
                }
            };
            self.member(&declared, &mut field.value, field.optional);
        }
        Type::Object(of)
    }
}
