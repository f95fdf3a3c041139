//! Source text to [`Expr`]: lexer, a recursive descent parser, macros.

mod grammar;
mod lexer;
mod macros;
mod text;

use crate::ast::Expr;
use crate::error::Issue;
pub(crate) use grammar::dotted;

/// Longer sources are refused.
const MAX_LENGTH: usize = 100_000;

/// The expression, and how many node ids it uses.
pub(crate) fn parse(source: &str) -> Result<(Expr, u32), Issue> {
    let length = source.chars().count();
    if length > MAX_LENGTH {
        let message = format!("expression code point size exceeds limit: size: {length}, limit {MAX_LENGTH}");
        return Err(Issue::new(0, message));
    }
    grammar::parse(lexer::tokens(source)?)
}
