//! Lists, maps and objects that expressions write out. What is in them may be anything here; that it is all of one
//! type, as Kubernetes demands, is one of the [`super::lints`].

use super::Checker;
use crate::ast::{Element, Entry, Expr, Struct};
use crate::types::Type;

impl Checker<'_> {
    pub(super) fn list(&mut self, elements: &mut [Element]) -> Type {
        let of = self.unifier.fresh();
        let mut alike = true;
        for element in elements {
            let found = self.member(&mut element.value, element.optional);
            alike &= self.unifier.attempt(|unifier| unifier.assignable(&of, &found));
        }
        Type::list(if alike { of } else { Type::Dyn })
    }

    /// The type of a part; `?` parts are optional values of it.
    fn member(&mut self, value: &mut Expr, optional: bool) -> Type {
        let found = self.infer(value);
        if !optional {
            return found;
        }
        let inner = self.unifier.fresh();
        let wanted = Type::optional(inner.clone());
        self.compare(value.at, &wanted, &found);
        inner
    }

    pub(super) fn map(&mut self, entries: &mut [Entry]) -> Type {
        let (key, value) = (self.unifier.fresh(), self.unifier.fresh());
        let (mut keys_alike, mut values_alike) = (true, true);
        for entry in entries {
            let found = self.infer(&mut entry.key);
            let allowed = [Type::Dyn, Type::Bool, Type::Int, Type::Uint, Type::String];
            match self.unifier.resolved(&found) {
                Type::Variable(_) => {}
                known if allowed.contains(&known) => {}
                known => self.issue(entry.key.at, format!("unsupported key type: {known}")),
            }
            keys_alike &= self.unifier.attempt(|unifier| unifier.assignable(&key, &found));
            let found = self.member(&mut entry.value, entry.optional);
            values_alike &= self.unifier.attempt(|unifier| unifier.assignable(&value, &found));
        }
        let or_anything = |alike: bool, of: Type| if alike { of } else { Type::Dyn };
        Type::map(or_anything(keys_alike, key), or_anything(values_alike, value))
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
            let found = self.member(&mut field.value, field.optional);
            self.compare(field.value.at, &declared, &found);
        }
        Type::Object(of)
    }
}
