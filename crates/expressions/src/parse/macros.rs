//! Calls that are macros: `has`, comprehensions with one and two variables, `sortBy`, `optMap`, `optFlatMap`.

use super::grammar::Parser;
use crate::ast::{Bind, Comprehension, Expr, Kind, Macro};
use crate::error::Issue;

/// `name(arguments)`.
pub(super) fn global(
    parser: &mut Parser,
    at: u32,
    name: &str,
    mut arguments: Vec<Expr>,
) -> Result<Expr, Issue> {
    if name != "has" || arguments.len() != 1 {
        return Ok(parser.call(at, name, false, arguments));
    }
    match arguments.pop() {
        Some(Expr { at, kind: Kind::Select(mut select), .. }) if !select.test && !select.optional => {
            select.test = true;
            Ok(parser.node(at, Kind::Select(select)))
        }
        _ => Err(Issue::new(at, "invalid argument to has() macro")),
    }
}

/// `target.name(arguments)`.
pub(super) fn member(
    parser: &mut Parser,
    at: u32,
    target: Expr,
    name: &str,
    arguments: Vec<Expr>,
) -> Result<Expr, Issue> {
    let count = arguments.len();
    let (macro_, variables, filtered) = match (name, count) {
        ("all", 2 | 3) => (Macro::All, count - 1, false),
        ("exists", 2 | 3) => (Macro::Exists, count - 1, false),
        ("exists_one" | "existsOne", 2 | 3) => (Macro::ExistsOne, count - 1, false),
        ("filter", 2) => (Macro::Filter, 1, false),
        ("map", 2) => (Macro::TransformList, 1, false),
        ("map", 3) => (Macro::TransformList, 1, true),
        ("transformList", 3 | 4) => (Macro::TransformList, 2, count == 4),
        ("transformMap", 3 | 4) => (Macro::TransformMap, 2, count == 4),
        ("transformMapEntry", 3 | 4) => (Macro::TransformMapEntry, 2, count == 4),
        ("sortBy", 2) => (Macro::SortBy, 1, false),
        ("optMap" | "optFlatMap", 2) => return bind(parser, at, target, name, arguments),
        _ => {
            let arguments = std::iter::once(target).chain(arguments).collect();
            return Ok(parser.call(at, name, true, arguments));
        }
    };
    let mut arguments = arguments.into_iter();
    let first = variable(arguments.next(), at)?;
    let second = if variables == 2 { Some(variable(arguments.next(), at)?) } else { None };
    if second.as_ref() == Some(&first) {
        return Err(Issue::new(at, format!("duplicate variable name: {first}")));
    }
    let filter = if filtered { arguments.next() } else { None };
    let body = arguments.next().ok_or_else(|| Issue::new(at, "the macro lacks an argument"))?;
    let comprehension = Comprehension { macro_, range: target, variable: first, second, filter, body };
    Ok(parser.node(at, Kind::Comprehension(Box::new(comprehension))))
}

fn bind(parser: &mut Parser, at: u32, value: Expr, name: &str, arguments: Vec<Expr>) -> Result<Expr, Issue> {
    let mut arguments = arguments.into_iter();
    let variable = variable(arguments.next(), at)?;
    let body = arguments.next().ok_or_else(|| Issue::new(at, "the macro lacks an argument"))?;
    Ok(parser.node(at, Kind::Bind(Box::new(Bind { flat: name == "optFlatMap", variable, value, body }))))
}

fn variable(argument: Option<Expr>, at: u32) -> Result<String, Issue> {
    match argument {
        Some(Expr { kind: Kind::Ident(name), .. }) => Ok(name),
        Some(other) => Err(Issue::new(other.at, "argument must be a simple name")),
        None => Err(Issue::new(at, "argument must be a simple name")),
    }
}
