//! Which types fit which, and what type parameters turn out to be.

use crate::types::Type;

#[derive(Default)]
pub(super) struct Unifier {
    /// What each variable is bound to.
    bindings: Vec<Option<Type>>,
    /// Bindings as they were, to go back when an overload does not fit.
    trail: Vec<(usize, Option<Type>)>,
}

/// Types are no deeper than expressions, but variables may refer to one another.
const MAX_DEPTH: u32 = 300;

impl Unifier {
    pub(super) fn fresh(&mut self) -> Type {
        self.bindings.push(None);
        Type::Variable((self.bindings.len() - 1) as u32)
    }

    /// Runs `fit`; when it fails, no binding of it stays.
    pub(super) fn attempt(&mut self, fit: impl FnOnce(&mut Self) -> bool) -> bool {
        let before = self.trail.len();
        let fits = fit(self);
        if !fits {
            self.undo(before);
        }
        fits
    }

    /// Runs `fit`, and keeps no binding of it.
    pub(super) fn probe<T>(&mut self, fit: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.trail.len();
        let result = fit(self);
        self.undo(before);
        result
    }

    fn undo(&mut self, length: usize) {
        for (variable, before) in self.trail.drain(length..).rev() {
            if let Some(place) = self.bindings.get_mut(variable) {
                *place = before;
            }
        }
    }

    fn bind(&mut self, variable: u32, to: Type) {
        let variable = variable as usize;
        if let Some(place) = self.bindings.get_mut(variable) {
            let before = place.replace(to);
            self.trail.push((variable, before));
        }
    }

    /// The type that a variable stands for; other types are themselves.
    pub(super) fn resolved(&self, of: &Type) -> Type {
        let mut of = of;
        for _ in 0..MAX_DEPTH {
            match of {
                Type::Variable(number) => {
                    match self.bindings.get(*number as usize).and_then(Option::as_ref) {
                        Some(bound) => of = bound,
                        None => break,
                    }
                }
                _ => break,
            }
        }
        of.clone()
    }

    /// The type with everything that is known filled in; what is not, may be anything.
    pub(super) fn known(&self, of: &Type) -> Type {
        self.filled(of, MAX_DEPTH)
    }

    fn filled(&self, of: &Type, depth: u32) -> Type {
        if depth == 0 {
            return Type::Dyn;
        }
        let fill = |of: &Type| self.filled(of, depth - 1);
        match self.resolved(of) {
            Type::Variable(_) | Type::Parameter(_) => Type::Dyn,
            Type::List(list) if open(&list.element.of) => {
                let mut list = (*list).clone();
                list.element.of = fill(&list.element.of);
                Type::List(list.into())
            }
            Type::Map(map) if open(&map.key.of) || open(&map.value.of) => {
                let mut map = (*map).clone();
                map.key.of = fill(&map.key.of);
                map.value.of = fill(&map.value.of);
                Type::Map(map.into())
            }
            Type::Optional(inner) => Type::optional(fill(&inner)),
            Type::Type(inner) => Type::Type(fill(&inner).into()),
            other => other,
        }
    }

    /// Whether a value of type `from` may be used where `to` is asked for.
    pub(super) fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        self.fits(to, from, MAX_DEPTH)
    }

    fn fits(&mut self, to: &Type, from: &Type, depth: u32) -> bool {
        if depth == 0 {
            return false;
        }
        if let (Type::Variable(a), Type::Variable(b)) = (to, from)
            && a == b
        {
            return true;
        }
        let (known, given) = (self.resolved(to), self.resolved(from));
        match (&known, &given) {
            (Type::Variable(a), Type::Variable(b)) if a == b => true,
            (Type::Variable(variable), other) | (other, Type::Variable(variable)) => {
                if self.occurs(*variable, other, depth) {
                    return false;
                }
                self.bind(*variable, other.clone());
                true
            }
            (Type::Dyn, _) => true,
            (_, Type::Dyn) => {
                // A parameter that stands for different things is anything.
                if let Type::Variable(variable) = to {
                    self.bind(*variable, Type::Dyn);
                }
                true
            }
            (Type::Null, other) if matches!(to, Type::Variable(_)) && nullable(other) => {
                if let Type::Variable(variable) = to {
                    self.bind(*variable, given.clone());
                }
                true
            }
            (Type::Null, Type::Null) => true,
            (other, Type::Null) => nullable(other),
            (Type::List(a), Type::List(b)) => self.fits(&a.element.of, &b.element.of, depth - 1),
            (Type::Map(a), Type::Map(b)) => {
                self.fits(&a.key.of, &b.key.of, depth - 1) && self.fits(&a.value.of, &b.value.of, depth - 1)
            }
            (Type::Optional(a), Type::Optional(b)) => self.fits(a, b, depth - 1),
            // Types can be compared, whatever they are the type of.
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    fn occurs(&self, variable: u32, of: &Type, depth: u32) -> bool {
        if depth == 0 {
            return true;
        }
        let within = |of: &Type| self.occurs(variable, of, depth - 1);
        match self.resolved(of) {
            Type::Variable(other) => other == variable,
            Type::List(list) => within(&list.element.of),
            Type::Map(map) => within(&map.key.of) || within(&map.value.of),
            Type::Optional(inner) | Type::Type(inner) => within(&inner),
            _ => false,
        }
    }
}

/// Whether there may be variables in it; objects have none.
fn open(of: &Type) -> bool {
    match of {
        Type::Variable(_) | Type::Parameter(_) => true,
        Type::List(list) => open(&list.element.of),
        Type::Map(map) => open(&map.key.of) || open(&map.value.of),
        Type::Optional(inner) | Type::Type(inner) => open(inner),
        _ => false,
    }
}

fn nullable(of: &Type) -> bool {
    matches!(of, Type::Dyn | Type::Object(_) | Type::Opaque(_) | Type::Duration | Type::Timestamp)
}
