//! Identifiers and selections.

use super::Checker;
use crate::ast::{Expr, Kind, Literal, Select};
use crate::authorizer;
use crate::parse::dotted;
use crate::types::Type;
use crate::value::types::{CIDR, FORMAT, IP, QUANTITY, SEMVER, URL};

impl Checker<'_> {
    pub(super) fn name(&mut self, node: &mut Expr) -> Type {
        if let Some(name) = dotted(node)
            && let Some(of) = self.resolve(node, &name)
        {
            return of;
        }
        let at = node.at;
        match &mut node.kind {
            Kind::Ident(name) => {
                let message = format!("undeclared reference to '{name}' (in container '')");
                self.issue(at, message);
                Type::Dyn
            }
            Kind::Select(select) => {
                if select.test && self.is_dotted_variable(select) {
                    node.kind = Kind::Literal(Literal::Bool(true));
                    return Type::Bool;
                }
                self.select(at, select)
            }
            _ => Type::Dyn,
        }
    }

    /// What the whole name means, if it means something as a whole.
    fn resolve(&mut self, node: &mut Expr, name: &str) -> Option<Type> {
        let root = name.split('.').next().unwrap_or_default();
        if let Some((_, of)) = self.locals.iter().rev().find(|(local, _)| local == root) {
            return matches!(node.kind, Kind::Ident(_)).then(|| of.of.clone());
        }
        if let Some(of) = self.environment.variable(name) {
            node.kind = Kind::Ident(name.to_owned());
            return Some(of.of.clone());
        }
        let of = type_named(name)?;
        node.kind = Kind::Literal(Literal::Type(of.clone()));
        Some(Type::Type(of.into()))
    }

    pub(super) fn is_variable(&self, name: &str) -> bool {
        let root = name.split('.').next().unwrap_or_default();
        self.locals.iter().any(|(local, _)| local == root) || self.environment.variable(root).is_some()
    }

    /// `has(variables.x)`: it is there.
    fn is_dotted_variable(&self, select: &Select) -> bool {
        let Some(operand) = dotted(&select.operand) else { return false };
        let local = self.locals.iter().any(|(local, _)| *local == operand);
        !local && self.environment.variable(&format!("{operand}.{}", select.field)).is_some()
    }

    fn select(&mut self, at: u32, select: &mut Select) -> Type {
        if let Kind::Ident(name) = &select.operand.kind
            && !self.is_variable(name)
            && self.environment.is_prefix(name)
        {
            let message = format!("undefined field '{}'", select.field);
            self.issue(at, message);
            return Type::Dyn;
        }
        let operand = self.infer(&mut select.operand);
        let (of, optional) = match self.unifier.resolved(&operand) {
            Type::Optional(inner) => (self.unifier.resolved(&inner), true),
            of => (of, select.optional),
        };
        let field = match &of {
            Type::Object(object) if object.constructible && object.fields.is_empty() => Type::Dyn,
            Type::Object(object) => match object.fields.get(&select.field) {
                Some(field) => field.value.of.clone(),
                None => {
                    let message = format!("undefined field '{}'", select.field);
                    self.issue(at, message);
                    Type::Dyn
                }
            },
            Type::Map(map) => {
                let (key, value) = (map.key.of.clone(), map.value.of.clone());
                self.compare(at, &key, &Type::String);
                value
            }
            Type::Dyn | Type::Variable(_) => Type::Dyn,
            other => {
                let message = format!("type '{other}' does not support field selection");
                self.issue(at, message);
                Type::Dyn
            }
        };
        match (select.test, optional) {
            (true, _) => Type::Bool,
            (false, true) => match self.unifier.resolved(&field) {
                field @ Type::Optional(_) => field,
                field => Type::optional(field),
            },
            (false, false) => field,
        }
    }
}

/// Types by name, as `type(x) == int` compares them.
fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(Type::Dyn.into()),
        "dyn" => Type::Dyn,
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        _ => {
            const NAMES: [&str; 11] = [
                URL,
                IP,
                CIDR,
                QUANTITY,
                SEMVER,
                FORMAT,
                authorizer::AUTHORIZER,
                authorizer::PATH_CHECK,
                authorizer::GROUP_CHECK,
                authorizer::RESOURCE_CHECK,
                authorizer::DECISION,
            ];
            Type::Opaque(NAMES.into_iter().find(|known| *known == name)?)
        }
    })
}
