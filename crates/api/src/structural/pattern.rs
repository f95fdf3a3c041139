//! Regular expressions as upstream reads them (Go's RE2 syntax), matched in linear time.
//!
//! The `regex` crate has the same guarantees and nearly the same syntax; [`translate`] puts the differences right.

use std::fmt;
use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// A compiled expression may be this large: authors of CRDs are not always friends.
const MAX_SIZE: usize = 1 << 20;

/// Compiled when it is first matched: a compiled expression is much larger than its text, and most are never used.
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// An expression that does not compile matches everything: it was refused when its CRD was made.
    pub fn is_match(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.text).ok());
        compiled.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

/// The expression, or why it is none.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern)).size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build().map_err(
        |error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        },
    )
}

/// Go's meaning in the words of the `regex` crate: the classes `\d`, `\w` and `\s` are of ASCII, a brace that begins no
/// repetition is a brace, and within brackets `[`, `&` and `~` stand for themselves.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut in_class = false;
    let mut class_start = false;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        let starts = std::mem::take(&mut class_start);
        match first {
            '\\' => {
                let escaped = rest.chars().nth(1);
                length += escaped.map_or(0, char::len_utf8);
                match (escaped, in_class) {
                    (Some('d'), true) => out.push_str("0-9"),
                    (Some('d'), false) => out.push_str("[0-9]"),
                    (Some('D'), false) => out.push_str("[^0-9]"),
                    (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                    (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                    (Some('W'), false) => out.push_str("[^0-9A-Za-z_]"),
                    (Some('s'), true) => out.push_str(r"\t\n\x0c\r "),
                    (Some('s'), false) => out.push_str(r"[\t\n\x0c\r ]"),
                    (Some('S'), false) => out.push_str(r"[^\t\n\x0c\r ]"),
                    (Some('D'), true) => out.push_str("[^0-9]"),
                    (Some('W'), true) => out.push_str("[^0-9A-Za-z_]"),
                    (Some('S'), true) => out.push_str(r"[^\t\n\x0c\r ]"),
                    (Some('b'), false) => out.push_str(r"(?-u:\b)"),
                    (Some(bracket @ ('<' | '>')), _) => out.push(bracket),
                    _ => out.push_str(rest.get(..length).unwrap_or_default()),
                }
            }
            '[' if in_class => match rest.strip_prefix("[:").and_then(|after| after.find(":]")) {
                Some(end) => {
                    length = end + 4;
                    out.push_str(rest.get(..length).unwrap_or_default());
                }
                None => out.push_str(r"\["),
            },
            '[' => {
                in_class = true;
                class_start = true;
                out.push('[');
                if rest.starts_with("[^") {
                    length = 2;
                    out.push('^');
                }
            }
            ']' if in_class && starts => out.push_str(r"\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(first);
            }
            '{' if !in_class && !is_repetition(rest) => out.push_str(r"\{"),
            other => out.push(other),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// `{3}`, `{3,}`, `{3,5}`
fn is_repetition(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.split_once('}')).map(|(inner, _)| inner)
    else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match inner.split_once(',') {
        None => !inner.is_empty() && digits(inner),
        Some((low, high)) => !low.is_empty() && digits(low) && digits(high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        #[track_caller]
        fn check(pattern: &str, good: &str, bad: &str) {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(regex.is_match(good), "{pattern} {good}");
            assert!(!regex.is_match(bad), "{pattern} {bad}");
        }
        check(r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", "* * * *");
        check(r"^\d$", "7", "٣");
        check(r"^[\w.-]+$", "a_b.c-d", "a b");
        check(r"^{[^}]*}$", "{x}", "x");
        check(r"^a{,2}$", "a{,2}", "aa");
        check(r"^[[:alpha:]]+$", "abc", "a1");
        check(r"^[[a]+$", "[a", "]");
        check(r"^[]a]+$", "]a", "[");
        check(r"^[a&&b]+$", "a&b", "c");
        check(r"^\<x\>$", "<x>", "x");
        check(r"^\/api\/v1\-x$", "/api/v1-x", "/api");
    }

    #[test]
    fn what_is_no_expression_is_told() {
        for bad in ["(", "a**b(", "[z-a]", r"\8", "(?=x)"] {
            assert!(compile(bad).is_err(), "{bad}");
        }
        assert!(compile(&format!("({}){{1000}}", "(a|b){1000}")).is_err());
    }
}
