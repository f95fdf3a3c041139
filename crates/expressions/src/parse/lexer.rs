//! Source text to tokens.

use std::sync::Arc;

use super::text::{self, Quoted};
use crate::error::Issue;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// The magnitude: the sign is the parser's.
    Int(u64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Spanned {
    pub token: Token,
    pub at: u32,
}

/// Longest first.
const SYMBOLS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", ".", ",", "(", ")", "[", "]", "{", "}", "+",
    "-", "*", "/", "%",
];

pub(crate) fn tokens(source: &str) -> Result<Vec<Spanned>, Issue> {
    let mut lexer = Lexer { source, position: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.position as u32;
        let token = lexer.next()?;
        let end = token == Token::End;
        tokens.push(Spanned { token, at });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    position: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.position..).unwrap_or_default()
    }

    fn issue(&self, message: impl std::fmt::Display) -> Issue {
        Issue::syntax(self.position as u32, message)
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']).len();
            self.position += blank;
            if !self.rest().starts_with("//") {
                return;
            }
            self.position += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Token, Issue> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if let Some((quoted, length)) = text::quoted(rest).map_err(|message| self.issue(message))? {
            self.position += length;
            return Ok(match quoted {
                Quoted::String(text) => Token::String(text.into()),
                Quoted::Bytes(bytes) => Token::Bytes(bytes.into()),
            });
        }
        let fraction = first == '.' && rest[1..].starts_with(|next: char| next.is_ascii_digit());
        if first.is_ascii_digit() || fraction {
            return self.number();
        }
        if first == '_' || first.is_ascii_alphabetic() {
            let length = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            self.position += length;
            return Ok(Token::Ident(rest[..length].to_owned()));
        }
        match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => {
                self.position += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            None => Err(self.issue(format!("token recognition error at: '{first}'"))),
        }
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let rest = self.rest();
        let unsigned = |length: usize| rest[length..].starts_with(['u', 'U']);
        if let Some(digits) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let length = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
            let value = u64::from_str_radix(&digits[..length], 16)
                .map_err(|_| self.issue("invalid hexadecimal literal"))?;
            return Ok(self.integer(value, 2 + length, unsigned(2 + length)));
        }
        let digits = |from: usize| {
            rest[from..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| from + length)
        };
        let mut end = digits(0);
        let whole = end;
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            end = digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            if rest[end + 1 + sign..].starts_with(|c: char| c.is_ascii_digit()) {
                end = digits(end + 1 + sign);
            }
        }
        if end > whole {
            let value = rest[..end].parse().map_err(|_| self.issue("invalid double literal"))?;
            self.position += end;
            return Ok(Token::Double(value));
        }
        let kind = if unsigned(end) { "uint" } else { "int" };
        let value = rest[..end].parse().map_err(|_| self.issue(format!("invalid {kind} literal")))?;
        Ok(self.integer(value, end, unsigned(end)))
    }

    fn integer(&mut self, value: u64, length: usize, unsigned: bool) -> Token {
        self.position += length + usize::from(unsigned);
        if unsigned { Token::Uint(value) } else { Token::Int(value) }
    }
}
