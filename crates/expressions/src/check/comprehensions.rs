//! Comprehensions and `optMap`: their variables, and the type of what they give.

use super::Checker;
use crate::ast::{Bind, Comprehension, Macro};
use crate::types::{ListKind, ListType, Sized, Type};

impl Checker<'_> {
    pub(super) fn comprehension(&mut self, comprehension: &mut Comprehension) -> Type {
        let range = self.infer(&mut comprehension.range);
        let any = || Sized::from(Type::Dyn);
        let (key, value, is_map) = match self.unifier.resolved(&range) {
            Type::List(list) => (Sized::from(Type::Int), list.element.clone(), false),
            Type::Map(map) => (map.key.clone(), map.value.clone(), true),
            Type::Dyn | Type::Variable(_) => (any(), any(), false),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.issue(comprehension.range.at, message);
                (any(), any(), false)
            }
        };
        let depth = self.locals.len();
        // One variable is the element of a list, or the key of a map.
        let single = if is_map { key.clone() } else { value.clone() };
        match &comprehension.second {
            Some(second) => {
                self.locals.push((comprehension.variable.clone(), key.clone()));
                self.locals.push((second.clone(), value));
            }
            None => self.locals.push((comprehension.variable.clone(), single.clone())),
        }
        if let Some(filter) = &mut comprehension.filter {
            self.expect(filter, &Type::Bool);
        }
        let body = self.infer(&mut comprehension.body);
        self.locals.truncate(depth);
        let at = comprehension.body.at;
        match comprehension.macro_ {
            Macro::All | Macro::Exists | Macro::ExistsOne => {
                self.compare(at, &Type::Bool, &body);
                Type::Bool
            }
            Macro::Filter => {
                self.compare(at, &Type::Bool, &body);
                Type::List(ListType { element: single, kind: ListKind::Atomic }.into())
            }
            Macro::TransformList => Type::list(body),
            Macro::SortBy => {
                let key = self.unifier.known(&body);
                if is_map || !(has_order(&key) || matches!(key, Type::Dyn | Type::Null)) {
                    let (range, keys) = (self.unifier.known(&range), Type::list(key));
                    self.issue(
                        at,
                        format!(
                            "found no matching overload for '@sortByAssociatedKeys' applied to '{range}.({keys})'"
                        ),
                    );
                }
                Type::List(ListType { element: single, kind: ListKind::Atomic }.into())
            }
            Macro::TransformMap => Type::map(key, body),
            Macro::TransformMapEntry => match self.unifier.resolved(&body) {
                body @ (Type::Map(_) | Type::Dyn) => body,
                other => {
                    self.issue(at, format!("expected type 'map(dyn, dyn)' but found '{other}'"));
                    Type::Dyn
                }
            },
        }
    }

    pub(super) fn bind(&mut self, bind: &mut Bind) -> Type {
        let value = self.infer(&mut bind.value);
        let inner = self.unifier.fresh();
        self.compare(bind.value.at, &Type::optional(inner.clone()), &value);
        self.locals.push((bind.variable.clone(), inner.into()));
        let body = self.infer(&mut bind.body);
        self.locals.pop();
        if !bind.flat {
            return Type::optional(body);
        }
        let result = Type::optional(self.unifier.fresh());
        self.compare(bind.body.at, &result, &body);
        result
    }
}

fn has_order(of: &Type) -> bool {
    matches!(
        of,
        Type::Int
            | Type::Uint
            | Type::Double
            | Type::Bool
            | Type::Duration
            | Type::Timestamp
            | Type::String
            | Type::Bytes
    )
}
