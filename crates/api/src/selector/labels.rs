//! Label selectors.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::SelectorError;
use crate::field::quote;
use crate::validation::names;

/// Anything in which a label can be looked up.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}
impl Labels for Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}
impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}
impl<S: std::hash::BuildHasher> Labels for HashMap<String, String, S> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}
impl<K: AsRef<str>, V: AsRef<str>> Labels for [(K, V)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k.as_ref() == key).map(|(_, v)| v.as_ref())
    }
}
impl<K: AsRef<str>, V: AsRef<str>> Labels for Vec<(K, V)> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_slice().label(key)
    }
}
impl<T: Labels + ?Sized> Labels for &T {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}
impl<T: Labels> Labels for Option<T> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.label(key))
    }
}

fn unexpected<T>(found: &str, expected: &str) -> Result<T, SelectorError> {
    Err(SelectorError::Label(format!("found '{found}', expected: {expected}")))
}

/// What a label must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub condition: Condition,
}

impl Requirement {
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = |v: &str| v.parse::<i64>().ok();
        match &self.condition {
            Condition::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Condition::NotIn(values) => value.is_none_or(|v| !values.iter().any(|x| x == v)),
            Condition::Exists => value.is_some(),
            Condition::DoesNotExist => value.is_none(),
            Condition::GreaterThan(n) => value.and_then(number).is_some_and(|v| v > *n),
            Condition::LessThan(n) => value.and_then(number).is_some_and(|v| v < *n),
        }
    }

    fn validated(key: &str, condition: Condition) -> Result<Self, SelectorError> {
        if let Some(problem) = names::qualified_name(key) {
            return Err(SelectorError::Label(format!("key: Invalid value: {}: {problem}", quote(key))));
        }
        if let Condition::In(values) | Condition::NotIn(values) = &condition {
            for (i, value) in values.iter().enumerate() {
                if let Some(problem) = names::label_value(value) {
                    return Err(SelectorError::Label(format!(
                        "values[{i}][{key}]: Invalid value: {}: {problem}",
                        quote(value)
                    )));
                }
            }
        }
        Ok(Self { key: key.to_owned(), condition })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.condition {
            Condition::In(values) => match values.as_slice() {
                [one] => write!(f, "{key}={one}"),
                many => write!(f, "{key} in ({})", many.join(",")),
            },
            Condition::NotIn(values) => match values.as_slice() {
                [one] => write!(f, "{key}!={one}"),
                many => write!(f, "{key} notin ({})", many.join(",")),
            },
            Condition::Exists => f.write_str(key),
            Condition::DoesNotExist => write!(f, "!{key}"),
            Condition::GreaterThan(n) => write!(f, "{key}>{n}"),
            Condition::LessThan(n) => write!(f, "{key}<{n}"),
        }
    }
}

/// Labels that an object must have. The default one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    /// A selector that is absent (`null`), which selects no object at all.
    nothing: bool,
}

impl LabelSelector {
    pub const fn everything() -> Self {
        Self { requirements: Vec::new(), nothing: false }
    }
    pub const fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels.label(&r.key)))
    }

    /// The `labelSelector` query parameter. Empty matches everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        text.parse()
    }

    /// Every one of these labels (a Service's or ReplicationController's selector).
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let requirements = labels
            .iter()
            .filter_map(|(k, v)| {
                Some(Requirement { key: k.clone(), condition: Condition::In(vec![v.as_str()?.to_owned()]) })
            })
            .collect();
        Self { requirements, nothing: false }
    }

    /// A `metav1.LabelSelector`: an empty object matches everything, `null` (or absence) nothing.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(Value::Object(selector)) = selector else { return Ok(Self::nothing()) };
        let mut out = match selector.get("matchLabels") {
            Some(Value::Object(labels)) => Self::from_map(labels),
            _ => Self::everything(),
        };
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
            let values: Vec<String> = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect();
            let condition = match text("operator") {
                "In" | "NotIn" if values.is_empty() => {
                    return Err(SelectorError::Object(
                        "for 'in', 'notin' operators, values set can't be empty".into(),
                    ));
                }
                "Exists" | "DoesNotExist" if !values.is_empty() => {
                    return Err(SelectorError::Object(
                        "values set must be empty for exists and does not exist".into(),
                    ));
                }
                "In" => Condition::In(values),
                "NotIn" => Condition::NotIn(values),
                "Exists" => Condition::Exists,
                "DoesNotExist" => Condition::DoesNotExist,
                other => {
                    return Err(SelectorError::Object(format!(
                        "{} is not a valid label selector operator",
                        quote(other)
                    )));
                }
            };
            out.requirements.push(Requirement { key: text("key").to_owned(), condition });
        }
        Ok(out)
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            r.fmt(f)?;
        }
        Ok(())
    }
}

/// A token of the label selector language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::Word(s) | Token::Symbol(s) => s,
            Token::End => "",
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Token<'a> {
        Lexer { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token<'a> {
        const SPECIAL: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if self.rest.is_empty() {
            return Token::End;
        }
        for symbol in ["==", "!=", "=", "!", "(", ")", ",", ">", "<"] {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                let token = self.rest.get(..symbol.len()).unwrap_or_default();
                self.rest = rest;
                return Token::Symbol(token);
            }
        }
        let is_end = |c: char| SPECIAL.contains(&c) || matches!(c, ' ' | '\t' | '\r' | '\n');
        let (word, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        Token::Word(word)
    }

    /// A key or value: any word, or nothing before a separator (the empty value).
    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word.to_owned())
            }
            Token::Symbol(other) => unexpected(other, "identifier"),
        }
    }

    /// `(a, b, c)`
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if self.next() != Token::Symbol("(") {
            return unexpected(self.peek().text(), "'('");
        }
        let mut values = Vec::new();
        let mut word_pending = false;
        loop {
            match self.next() {
                Token::Word(word) if !word_pending => {
                    values.push(word.to_owned());
                    word_pending = true;
                }
                Token::Symbol(",") => {
                    if !word_pending {
                        values.push(String::new());
                    }
                    word_pending = false;
                }
                Token::Symbol(")") => {
                    if !word_pending {
                        values.push(String::new());
                    }
                    // A set, in order, as upstream prints it.
                    values.sort();
                    values.dedup();
                    return Ok(values);
                }
                other => return unexpected(other.text(), "',', or ')'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut negated = false;
        if self.peek() == Token::Symbol("!") {
            self.next();
            negated = true;
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return unexpected(other.text(), "identifier"),
        };
        if negated {
            return Requirement::validated(key, Condition::DoesNotExist);
        }
        let condition = match self.peek() {
            Token::End | Token::Symbol(",") => return Requirement::validated(key, Condition::Exists),
            token => {
                self.next();
                match token.text() {
                    "in" => Condition::In(self.values()?),
                    "notin" => Condition::NotIn(self.values()?),
                    "=" | "==" => Condition::In(vec![self.exact_value()?]),
                    "!=" => Condition::NotIn(vec![self.exact_value()?]),
                    comparison @ (">" | "<") => {
                        let value = self.exact_value()?;
                        let n: i64 = value.parse().map_err(|_| {
                            SelectorError::Label(format!(
                                "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                                quote(&value)
                            ))
                        })?;
                        if comparison == ">" { Condition::GreaterThan(n) } else { Condition::LessThan(n) }
                    }
                    other => return unexpected(other, "in, notin, =, ==, !=, gt, lt"),
                }
            }
        };
        Requirement::validated(key, condition)
    }
}

impl FromStr for LabelSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lexer = Lexer { rest: text };
        let mut requirements = Vec::new();
        if lexer.peek() == Token::End {
            return Ok(Self::everything());
        }
        loop {
            requirements.push(lexer.requirement()?);
            match lexer.next() {
                Token::End => break,
                Token::Symbol(",") => {}
                other => return unexpected(other.text(), "',' or 'end of string'"),
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }
}
