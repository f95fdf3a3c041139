//! What an expression costs at most, before any object exists: the sizes of variables are those that their types
//! allow.
//!
//! Follows the figures of [`crate::run`]'s costs with sizes at their largest. All sums saturate.

use crate::ast::{Bind, Call, Comprehension, Expr, Kind, Literal, Macro, Select};
use crate::environment::Environment;
use crate::run::cost::{CHECK, LIST, MAP, STEP, STRUCT, pattern, sorting, traversal};
use crate::types::{Sized, Type, UNBOUNDED};

pub(crate) fn cost(expression: &Expr, types: &[Type], environment: &Environment) -> u64 {
    let mut estimator = Estimator { types, environment, locals: Vec::new(), cost: 0 };
    estimator.visit(expression);
    estimator.cost
}

struct Estimator<'e> {
    types: &'e [Type],
    environment: &'e Environment,
    locals: Vec<(&'e str, Sized)>,
    cost: u64,
}

impl<'e> Estimator<'e> {
    fn charge(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
    }

    fn type_of(&self, node: &Expr) -> Type {
        self.types.get(node.id as usize).cloned().unwrap_or(Type::Dyn)
    }

    /// Adds what the node costs, and tells what it gives.
    fn visit(&mut self, node: &'e Expr) -> Sized {
        let of = self.type_of(node);
        match &node.kind {
            Kind::Literal(literal) => Sized { of, max: literal_size(literal) },
            Kind::Ident(name) => {
                self.charge(1);
                let local = self.locals.iter().rev().find(|(local, _)| local == name);
                let known = local.map(|(_, value)| value).or_else(|| self.environment.variable(name));
                known.cloned().unwrap_or_else(|| of.into())
            }
            Kind::Select(select) => self.select(select, of),
            Kind::Call(call) => self.call(call, of),
            Kind::Logic { terms, .. } => {
                for term in terms {
                    self.visit(term);
                    self.charge(1);
                }
                Sized { of, max: 1 }
            }
            Kind::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                self.visit(condition);
                // Only one of the two is evaluated: the dearer one counts.
                let before = self.cost;
                let first = self.visit(yes);
                let after_first = std::mem::replace(&mut self.cost, before);
                let second = self.visit(no);
                self.cost = self.cost.max(after_first);
                Sized { of, max: first.max.max(second.max) }
            }
            Kind::List(elements) => {
                let sizes: Vec<Sized> = elements.iter().map(|element| self.visit(&element.value)).collect();
                self.charge(LIST);
                let widest = sizes.into_iter().max_by_key(|size| size.max);
                let of = match widest {
                    Some(element) => Type::list(element),
                    None => of,
                };
                Sized { of, max: elements.len() as u64 }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    self.visit(&entry.key);
                    self.visit(&entry.value);
                }
                self.charge(MAP);
                Sized { of, max: entries.len() as u64 }
            }
            Kind::Struct(literal) => {
                for field in &literal.fields {
                    self.visit(&field.value);
                }
                self.charge(STRUCT);
                Sized { of, max: literal.fields.len() as u64 }
            }
            Kind::Comprehension(comprehension) => self.comprehension(comprehension, of),
            Kind::Bind(bind) => self.bind(bind, of),
        }
    }

    fn select(&mut self, select: &'e Select, of: Type) -> Sized {
        let operand = self.visit(&select.operand);
        if select.test {
            return Sized { of, max: 1 };
        }
        self.charge(1);
        let within = match &operand.of {
            Type::Optional(inner) => (**inner).clone(),
            other => other.clone(),
        };
        let field = match &within {
            Type::Object(object) => object.fields.get(&select.field).map(|field| field.value.clone()),
            Type::Map(map) => Some(map.value.clone()),
            _ => None,
        };
        let optional = matches!(of, Type::Optional(_));
        match field {
            Some(field) if optional => Sized { of: Type::optional(field.of), max: field.max },
            Some(field) => field,
            None => Sized { of, max: UNBOUNDED },
        }
    }

    fn comprehension(&mut self, comprehension: &'e Comprehension, of: Type) -> Sized {
        let range = self.visit(&comprehension.range);
        let any = || Sized { of: Type::Dyn, max: UNBOUNDED };
        let (key, value, is_map) = match &range.of {
            Type::List(list) => (Sized::from(Type::Int), list.element.clone(), false),
            Type::Map(map) => (map.key.clone(), map.value.clone(), true),
            _ => (any(), any(), false),
        };
        let depth = self.locals.len();
        let single = if is_map { key.clone() } else { value.clone() };
        match &comprehension.second {
            Some(second) => {
                self.locals.push((&comprehension.variable, key));
                self.locals.push((second, value));
            }
            None => self.locals.push((&comprehension.variable, single.clone())),
        }
        let before = std::mem::take(&mut self.cost);
        if let Some(filter) = &comprehension.filter {
            self.visit(filter);
        }
        let body = self.visit(&comprehension.body);
        self.locals.truncate(depth);
        let gathering = match comprehension.macro_ {
            Macro::All | Macro::Exists | Macro::ExistsOne => 0,
            Macro::Filter | Macro::TransformList | Macro::SortBy => LIST,
            Macro::TransformMap | Macro::TransformMapEntry => MAP,
        };
        let each = self.cost.saturating_add(STEP + gathering);
        self.cost = before.saturating_add(range.max.saturating_mul(each));
        match comprehension.macro_ {
            Macro::All | Macro::Exists | Macro::ExistsOne => Sized { of, max: 1 },
            Macro::SortBy => {
                self.charge(sorting(range.max));
                Sized { of: Type::list(single), max: range.max }
            }
            Macro::Filter => Sized { of: Type::list(single), max: range.max },
            Macro::TransformList => Sized { of: Type::list(body), max: range.max },
            Macro::TransformMap => Sized { of: Type::map(Type::Dyn, body), max: range.max },
            Macro::TransformMapEntry => Sized { of, max: range.max.saturating_mul(body.max) },
        }
    }

    fn bind(&mut self, bind: &'e Bind, of: Type) -> Sized {
        let value = self.visit(&bind.value);
        let held = match value.of {
            Type::Optional(inner) => (*inner).clone(),
            other => other,
        };
        self.charge(STEP);
        self.locals.push((&bind.variable, Sized { of: held, max: value.max }));
        let body = self.visit(&bind.body);
        self.locals.pop();
        Sized { of, max: body.max }
    }

    fn call(&mut self, call: &'e Call, of: Type) -> Sized {
        let arguments: Vec<Sized> = call.arguments.iter().map(|argument| self.visit(argument)).collect();
        let size = |index: usize| arguments.get(index).map_or(0, |argument| argument.max);
        let is_text =
            |index: usize| arguments.get(index).is_some_and(|a| matches!(a.of, Type::String | Type::Bytes));
        let is_list = |index: usize| arguments.get(index).is_some_and(|a| matches!(a.of, Type::List(_)));
        let sized = |index: usize| {
            arguments.get(index).is_none_or(|a| {
                matches!(
                    a.of,
                    Type::Dyn | Type::String | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Object(_)
                )
            })
        };
        let twice = |size: u64| traversal(size.saturating_mul(2));
        let (cost, max) = match call.function.as_str() {
            "check" => (CHECK, 1),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => match arguments.first() {
                Some(Sized { of: Type::List(list), max }) => {
                    let text = matches!(list.element.of, Type::String | Type::Bytes);
                    let each = if text { traversal(list.element.max).saturating_add(1) } else { 1 };
                    (max.saturating_mul(each), list.element.max)
                }
                _ => (traversal(size(0)), 1),
            },
            "url" | "isURL" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver"
            | "isSemver" => (traversal(size(0)), 1),
            "ip" if is_text(0) => (traversal(size(0)), 1),
            "ip.isCanonical" => (twice(size(0)), 1),
            "lowerAscii" | "upperAscii" | "substring" | "trim" | "bytes" => (traversal(size(0)), size(0)),
            "strings.quote" | "jsonpatch.escapeKey" => (twice(size(0)), size(0).saturating_mul(2)),
            "replace" => {
                let places = if size(1) == 0 { size(0).saturating_add(1) } else { size(0) };
                (twice(size(0)), size(0).saturating_add(places.saturating_mul(size(2))))
            }
            "split" => {
                let part = Sized { of: Type::String, max: size(0) };
                self.charge(twice(size(0)));
                return Sized { of: Type::list(part), max: size(0) };
            }
            "join" => {
                let element = match arguments.first() {
                    Some(Sized { of: Type::List(list), .. }) => list.element.max,
                    _ => UNBOUNDED,
                };
                let length = size(0).saturating_mul(element.saturating_add(size(1)));
                (twice(length), length)
            }
            "format" => {
                let length = size(0).saturating_add(size(1).saturating_mul(100));
                (traversal(size(0)), length)
            }
            "matches" | "find" | "findAll" => {
                let machine = pattern(size(1)).max(1);
                (traversal(size(0).saturating_add(1)).saturating_mul(machine), size(0))
            }
            "validate" => (traversal(size(1)).saturating_mul(50), 1),
            "containsIP" | "containsCIDR" => {
                (10_u64.saturating_add(if is_text(1) { traversal(size(1)) } else { 0 }), 1)
            }
            "startsWith" | "endsWith" => (traversal(size(1)), 1),
            "contains" => (traversal(size(0)).saturating_mul(traversal(size(1)).max(1)), 1),
            "@in" if is_list(1) => (size(1), 1),
            "sets.contains" | "sets.intersects" => (size(0).saturating_mul(size(1)), 1),
            "sets.equivalent" => (size(0).saturating_mul(size(1)).saturating_mul(2), 1),
            "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => {
                let compared = match (sized(0), sized(1)) {
                    (true, true) => size(0).min(size(1)),
                    _ => 1,
                };
                (traversal(compared).max(1), 1)
            }
            "_+_" if is_text(0) || is_list(0) => {
                let length = size(0).saturating_add(size(1));
                // Lists are joined without being copied.
                self.charge(if is_list(0) { 1 } else { traversal(length).max(1) });
                let of = arguments.into_iter().next().map_or(of, |first| first.of);
                return Sized { of, max: length };
            }
            "_[_]" | "_[?_]" => {
                self.charge(1);
                let element = match arguments.first().map(|first| &first.of) {
                    Some(Type::List(list)) => Some(list.element.clone()),
                    Some(Type::Map(map)) => Some(map.value.clone()),
                    _ => None,
                };
                return match element {
                    Some(element) if call.function == "_[_]" => element,
                    Some(element) => Sized { of: Type::optional(element.of), max: element.max },
                    None => Sized { of, max: UNBOUNDED },
                };
            }
            "sort" | "distinct" | "reverse" | "slice" => {
                let kept = match (literal_int(call.arguments.get(1)), literal_int(call.arguments.get(2))) {
                    (Some(start), Some(end)) => end.saturating_sub(start),
                    _ => size(0),
                };
                self.charge(match call.function.as_str() {
                    "sort" | "distinct" => sorting(size(0)),
                    _ => kept.saturating_add(LIST + 1),
                });
                let of = arguments.into_iter().next().map_or(of, |first| first.of);
                return Sized { of, max: kept };
            }
            "flatten" => (size(0).saturating_add(LIST + 1), UNBOUNDED),
            "lists.range" => {
                let count = literal_int(call.arguments.first()).unwrap_or(UNBOUNDED);
                (count.saturating_add(LIST + 1), count)
            }
            "orValue" | "or" => (1, size(0).max(size(1))),
            "value" | "optional.of" | "optional.ofNonZeroValue" | "dyn" => (1, size(0)),
            "string" if matches!(arguments.first(), Some(Sized { of: Type::Bytes, .. })) => {
                (traversal(size(0)).max(1), size(0))
            }
            "string" if is_text(0) => (1, size(0)),
            "string" => (1, 64),
            _ => (1, 1),
        };
        self.charge(cost);
        // What holds another value keeps what is known of it.
        let kept = match (call.function.as_str(), arguments.into_iter().next()) {
            ("value" | "orValue", Some(Sized { of: Type::Optional(inner), .. })) => (*inner).clone(),
            ("optional.of" | "optional.ofNonZeroValue", Some(first)) => Type::optional(first.of),
            _ => of,
        };
        Sized { of: kept, max }
    }
}

fn literal_size(literal: &Literal) -> u64 {
    match literal {
        Literal::String(text) => text.chars().count() as u64,
        Literal::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    }
}

fn literal_int(argument: Option<&Expr>) -> Option<u64> {
    match argument.map(|argument| &argument.kind) {
        Some(Kind::Literal(Literal::Int(number))) => u64::try_from(*number).ok(),
        _ => None,
    }
}
