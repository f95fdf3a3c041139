//! The grammar of cel-spec, by recursive descent with precedence climbing.
//!
//! Nesting and the depth of the tree are limited, so that neither this parser nor what walks the tree later can run
//! out of stack.

use super::lexer::{Spanned, Token};
use super::macros;
use crate::ast::{Call, Element, Entry, Expr, Field, Kind, Literal, Select, Struct};
use crate::error::Issue;

/// How deep parentheses, lists and calls may be nested.
const MAX_NESTING: u32 = 100;
/// How many levels of nodes there may be: nesting, and operators, selections and calls that follow one another.
const MAX_DEPTH: u32 = 250;

pub(super) fn parse(tokens: Vec<Spanned>) -> Result<(Expr, u32), Issue> {
    let mut parser = Parser { tokens, position: 0, ids: 0, nesting: 0, deepest: 0 };
    let expression = parser.expression()?;
    match parser.peek() {
        Token::End => Ok((expression, parser.ids)),
        _ => Err(parser.unexpected("<EOF>")),
    }
}

pub(super) struct Parser {
    tokens: Vec<Spanned>,
    position: usize,
    ids: u32,
    nesting: u32,
    deepest: u32,
}

/// Binary operators by precedence; `&&`, `||` and `?:` are parsed apart.
fn binary(token: &Token) -> Option<(u8, &'static str)> {
    Some(match token {
        Token::Symbol("<") => (1, "_<_"),
        Token::Symbol("<=") => (1, "_<=_"),
        Token::Symbol(">") => (1, "_>_"),
        Token::Symbol(">=") => (1, "_>=_"),
        Token::Symbol("==") => (1, "_==_"),
        Token::Symbol("!=") => (1, "_!=_"),
        Token::Ident(name) if name == "in" => (1, "@in"),
        Token::Symbol("+") => (2, "_+_"),
        Token::Symbol("-") => (2, "_-_"),
        Token::Symbol("*") => (3, "_*_"),
        Token::Symbol("/") => (3, "_/_"),
        Token::Symbol("%") => (3, "_%_"),
        _ => return None,
    })
}

impl Parser {
    pub(super) fn node(&mut self, at: u32, kind: Kind) -> Expr {
        self.ids += 1;
        let mut node = Expr { id: self.ids - 1, at, depth: 0, kind };
        let mut below = 0;
        node.children(&mut |child| below = below.max(child.depth));
        node.depth = below + 1;
        self.deepest = self.deepest.max(node.depth);
        node
    }

    pub(super) fn call(&mut self, at: u32, function: &str, member: bool, arguments: Vec<Expr>) -> Expr {
        self.node(at, Kind::Call(Box::new(Call { function: function.to_owned(), member, arguments })))
    }

    fn current(&self) -> &Spanned {
        // The last token is `End`, and is never passed.
        &self.tokens[self.position.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &Token {
        &self.current().token
    }

    fn at(&self) -> u32 {
        self.current().at
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Issue> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected(&format!("'{symbol}'"))) }
    }

    fn unexpected(&self, expected: &str) -> Issue {
        let found = match self.peek() {
            Token::Ident(name) => name.clone(),
            Token::Symbol(symbol) => (*symbol).to_owned(),
            Token::Int(value) => value.to_string(),
            Token::Uint(value) => format!("{value}u"),
            Token::Double(value) => value.to_string(),
            Token::String(text) => format!("\"{}\"", text.escape_debug()),
            Token::Bytes(_) => "bytes".to_owned(),
            Token::End => "<EOF>".to_owned(),
        };
        Issue::syntax(self.at(), format!("mismatched input '{found}' expecting {expected}"))
    }

    fn ident(&mut self) -> Result<String, Issue> {
        match self.peek() {
            Token::Ident(name) if !matches!(name.as_str(), "true" | "false" | "null" | "in") => {
                let name = name.clone();
                self.position += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("IDENTIFIER")),
        }
    }

    fn expression(&mut self) -> Result<Expr, Issue> {
        self.nesting += 1;
        self.bounded()?;
        let condition = self.logic("||")?;
        let at = self.at();
        let expression = if self.take("?") {
            let yes = self.logic("||")?;
            self.expect(":")?;
            let no = self.expression()?;
            self.node(at, Kind::Conditional(Box::new([condition, yes, no])))
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(expression)
    }

    fn logic(&mut self, operator: &'static str) -> Result<Expr, Issue> {
        let all = operator == "&&";
        let term = |parser: &mut Self| if all { parser.binary(1) } else { parser.logic("&&") };
        let first = term(self)?;
        if !self.is(operator) {
            return Ok(first);
        }
        let at = self.at();
        let mut terms = vec![first];
        while self.take(operator) {
            terms.push(term(self)?);
        }
        Ok(self.node(at, Kind::Logic { all, terms }))
    }

    fn bounded(&self) -> Result<(), Issue> {
        if self.nesting > MAX_NESTING || self.deepest > MAX_DEPTH {
            let message = format!("expression recursion limit exceeded: {MAX_DEPTH}");
            return Err(Issue::new(self.at(), message));
        }
        Ok(())
    }

    fn binary(&mut self, least: u8) -> Result<Expr, Issue> {
        let mut left = self.unary()?;
        while let Some((precedence, function)) = binary(self.peek()).filter(|(found, _)| *found >= least) {
            self.bounded()?;
            let at = self.at();
            self.position += 1;
            let right = self.binary(precedence + 1)?;
            left = self.call(at, function, false, vec![left, right]);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Issue> {
        let at = self.at();
        let operator = if self.is("!") { "!" } else { "-" };
        let mut count = 0;
        while self.take(operator) {
            count += 1;
        }
        let number = matches!(self.peek(), Token::Int(_) | Token::Double(_));
        let negative = operator == "-" && count % 2 == 1;
        if negative && number {
            // The sign belongs to the literal: there is no other way to write the smallest int.
            let literal = self.literal(true)?.unwrap_or(Literal::Null);
            let literal = self.node(at, Kind::Literal(literal));
            return self.selections(literal);
        }
        let operand = self.member()?;
        if count % 2 == 0 {
            return Ok(operand);
        }
        let function = if negative { "-_" } else { "!_" };
        Ok(self.call(at, function, false, vec![operand]))
    }

    fn member(&mut self) -> Result<Expr, Issue> {
        let primary = self.primary()?;
        self.selections(primary)
    }

    fn selections(&mut self, mut operand: Expr) -> Result<Expr, Issue> {
        loop {
            let at = self.at();
            if self.take(".") {
                self.bounded()?;
                let optional = self.take("?");
                let field = self.ident()?;
                let paren = self.at();
                operand = if !optional && self.take("(") {
                    let arguments = self.arguments()?;
                    macros::member(self, paren, operand, &field, arguments)?
                } else {
                    let select = Select { operand, field, optional, test: false };
                    self.node(at, Kind::Select(Box::new(select)))
                };
            } else if self.take("[") {
                self.bounded()?;
                let function = if self.take("?") { "_[?_]" } else { "_[_]" };
                let index = self.expression()?;
                self.expect("]")?;
                operand = self.call(at, function, false, vec![operand, index]);
            } else if self.is("{") {
                let Some(name) = dotted(&operand) else { return Ok(operand) };
                operand = self.structure(name)?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// The arguments of a call, after the opening parenthesis.
    fn arguments(&mut self) -> Result<Vec<Expr>, Issue> {
        let mut arguments = Vec::new();
        if self.take(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression()?);
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(arguments)
    }

    fn primary(&mut self) -> Result<Expr, Issue> {
        let at = self.at();
        if let Some(literal) = self.literal(false)? {
            return Ok(self.node(at, Kind::Literal(literal)));
        }
        if self.take("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take("[") {
            return self.list(at);
        }
        if self.take("{") {
            return self.map(at);
        }
        self.take(".");
        let name = self.ident().map_err(|_| self.unexpected("an expression"))?;
        let paren = self.at();
        if self.take("(") {
            let arguments = self.arguments()?;
            return macros::global(self, paren, &name, arguments);
        }
        if crate::reserved::is_reserved(&name) {
            return Err(Issue::syntax(at, format!("reserved identifier: {name}")));
        }
        Ok(self.node(at, Kind::Ident(name)))
    }

    fn literal(&mut self, negative: bool) -> Result<Option<Literal>, Issue> {
        let literal = match self.peek() {
            Token::Int(magnitude) => {
                let value = if negative { -i128::from(*magnitude) } else { i128::from(*magnitude) };
                let value =
                    i64::try_from(value).map_err(|_| Issue::syntax(self.at(), "invalid int literal"))?;
                Literal::Int(value)
            }
            Token::Uint(value) => Literal::Uint(*value),
            Token::Double(value) => Literal::Double(if negative { -value } else { *value }),
            Token::String(text) => Literal::String(text.clone()),
            Token::Bytes(bytes) => Literal::Bytes(bytes.clone()),
            Token::Ident(name) => match name.as_str() {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "null" => Literal::Null,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.position += 1;
        Ok(Some(literal))
    }

    fn list(&mut self, at: u32) -> Result<Expr, Issue> {
        let mut elements = Vec::new();
        while !self.take("]") {
            let optional = self.take("?");
            elements.push(Element { value: self.expression()?, optional });
            if !self.take(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(self.node(at, Kind::List(elements)))
    }

    fn map(&mut self, at: u32) -> Result<Expr, Issue> {
        let mut entries = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expression()?, optional });
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.node(at, Kind::Map(entries)))
    }

    fn structure(&mut self, name: String) -> Result<Expr, Issue> {
        let brace = self.at();
        self.expect("{")?;
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let at = self.at();
            let name = self.ident()?;
            self.expect(":")?;
            fields.push(Field { name, value: self.expression()?, optional, at });
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.node(brace, Kind::Struct(Box::new(Struct { name, fields }))))
    }
}

/// `a.b.c` as a name, where the expression is nothing else.
pub(crate) fn dotted(expression: &Expr) -> Option<String> {
    match &expression.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select(select) if !select.test && !select.optional => {
            Some(format!("{}.{}", dotted(&select.operand)?, select.field))
        }
        _ => None,
    }
}
