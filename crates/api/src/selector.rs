//! Label and field selectors: as query strings (`app in (a, b),!old`, `status.phase!=Running`) and, for labels, as
//! `metav1.LabelSelector` objects.

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Label(String),
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Field { selector: String, term: String },
    #[error("{0}")]
    Object(String),
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
                    return Err(SelectorError::Object("for 'in', 'notin' operators, values set can't be empty".into()));
                }
                "Exists" | "DoesNotExist" if !values.is_empty() => {
                    return Err(SelectorError::Object("values set must be empty for exists and does not exist".into()));
                }
                "In" => Condition::In(values),
                "NotIn" => Condition::NotIn(values),
                "Exists" => Condition::Exists,
                "DoesNotExist" => Condition::DoesNotExist,
                other => {
                    return Err(SelectorError::Object(format!("{} is not a valid label selector operator", quote(other))));
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

/// `field=value` or `field!=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub equal: bool,
    pub value: String,
}

/// The `fieldSelector` query parameter. The default one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        text.parse()
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The fields that it looks at, so that the caller can refuse those that a kind does not select by.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.requirements.iter().map(|r| r.field.as_str())
    }

    /// The value that the field must have, where the selector asks for one (`metadata.name=x`).
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// `value_of` gives a field's value; a field that the object lacks is the empty string.
    pub fn matches<'a>(&self, mut value_of: impl FnMut(&str) -> Cow<'a, str>) -> bool {
        self.requirements.iter().all(|r| (value_of(&r.field) == r.value) == r.equal)
    }

    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(|field| field_value(object, field))
    }
}

/// The value of a field as selectors see it: text, numbers and booleans as text, anything else as empty.
pub fn field_value<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let value = field.split('.').try_fold(object, |value, name| value.get(name));
    match value {
        Some(Value::String(s)) => Cow::Borrowed(s),
        Some(Value::Bool(b)) => Cow::Borrowed(if *b { "true" } else { "false" }),
        Some(Value::Number(n)) => Cow::Owned(n.to_string()),
        _ => Cow::Borrowed(""),
    }
}

impl FromStr for FieldSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let malformed = || SelectorError::Field { selector: text.to_owned(), term: term.to_owned() };
            let (field, operator, value) = split_operator(term).ok_or_else(malformed)?;
            let value = unescape(value).ok_or_else(malformed)?;
            requirements.push(FieldRequirement { field: field.to_owned(), equal: operator != "!=", value });
        }
        Ok(Self { requirements })
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if r.equal { "=" } else { "!=" };
            let value = r.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", r.field)?;
        }
        Ok(())
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(text.get(start..i).unwrap_or_default());
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(text.get(start..).unwrap_or_default());
    terms
}

/// The first operator wins; of those at one place, the longest.
fn split_operator(term: &str) -> Option<(&str, &str, &str)> {
    for (i, _) in term.char_indices() {
        let rest = term.get(i..)?;
        for operator in ["!=", "==", "="] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((term.get(..i)?, operator, value));
            }
        }
    }
    None
}

/// `None` for an escape of anything but `\`, `,` and `=`, and for a bare `=`.
fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            '=' | ',' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn label_selectors_match() {
        #[track_caller]
        fn check(selector: &str, labels: Value, want: bool) {
            let selector = LabelSelector::parse(selector).unwrap();
            assert_eq!(selector.matches(labels.as_object().unwrap()), want, "{selector}");
        }
        check("", json!({}), true);
        check("a=b", json!({"a": "b"}), true);
        check("a==b", json!({"a": "c"}), false);
        check("a=", json!({"a": ""}), true);
        check("a=,b=1", json!({"a": "", "b": "1"}), true);
        check("a!=b", json!({}), true);
        check("a!=b", json!({"a": "b"}), false);
        check("a", json!({"a": "x"}), true);
        check("!a", json!({"a": "x"}), false);
        check("!a", json!({}), true);
        check("! a", json!({}), true);
        check("a in (x, y),b", json!({"a": "y", "b": ""}), true);
        check("a in (x,y)", json!({"a": "z"}), false);
        check("a in ()", json!({"a": ""}), true);
        check("a in (,x)", json!({"a": ""}), true);
        check("a notin (x,y)", json!({"a": "z"}), true);
        check("a notin (x,y)", json!({}), true);
        check("n>1", json!({"n": "2"}), true);
        check("n<1", json!({"n": "2"}), false);
        check("n>1", json!({"n": "x"}), false);
        check("in=notin", json!({"in": "notin"}), true);
        check("example.com/a=b", json!({"example.com/a": "b"}), true);
    }

    #[test]
    fn bad_label_selectors() {
        for bad in ["a=b=c", ",", "a,", "a in x", "a in (x", "=b", "!", "a b", "n>x", "a==(b)", "bad key!", "-a=b", "a=-", "a in (x y)", "(a)"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            LabelSelector::parse("a,").unwrap_err().to_string(),
            "unable to parse requirement: found '', expected: identifier"
        );
    }

    #[test]
    fn selector_objects() {
        #[track_caller]
        fn check(object: Value, labels: Value, want: bool) {
            let selector = LabelSelector::from_object(Some(&object)).unwrap();
            assert_eq!(selector.matches(&labels), want, "{object}");
        }
        check(json!(null), json!({}), false);
        check(json!({}), json!({"a": "b"}), true);
        check(json!({"matchLabels": {"a": "b"}}), json!({"a": "b", "c": "d"}), true);
        check(json!({"matchLabels": {"a": "b"}}), json!({"a": "c"}), false);
        let expression = |op: &str, values: Value| json!({"matchExpressions": [{"key": "a", "operator": op, "values": values}]});
        check(expression("In", json!(["x", "y"])), json!({"a": "y"}), true);
        check(expression("NotIn", json!(["x", "y"])), json!({"a": "y"}), false);
        check(expression("Exists", json!(null)), json!({"a": ""}), true);
        check(expression("DoesNotExist", json!([])), json!({"a": ""}), false);
        assert!(LabelSelector::from_object(Some(&expression("In", json!([])))).is_err());
        assert!(LabelSelector::from_object(Some(&expression("Near", json!([])))).is_err());
        assert!(!LabelSelector::from_object(None).unwrap().matches(&json!({})));
    }

    #[test]
    fn field_selectors() {
        let pod = json!({"metadata": {"name": "x"}, "spec": {"nodeName": "n,1", "hostNetwork": true}, "status": {"phase": "Running"}});
        #[track_caller]
        fn check(selector: &str, object: &Value, want: bool) {
            assert_eq!(FieldSelector::parse(selector).unwrap().matches_object(object), want, "{selector}");
        }
        check("", &pod, true);
        check("metadata.name=x", &pod, true);
        check("metadata.name==y", &pod, false);
        check("status.phase!=Running", &pod, false);
        check("status.phase!=Failed,metadata.name=x", &pod, true);
        check("spec.nodeName=n\\,1", &pod, true);
        check("spec.hostNetwork=true", &pod, true);
        check("spec.missing=", &pod, true);
        check("metadata.name.more=", &pod, true);
        assert_eq!(
            FieldSelector::parse("a=1,b").unwrap_err().to_string(),
            "invalid selector: 'a=1,b'; can't understand 'b'"
        );
        assert!(FieldSelector::parse("a=\\x").is_err());
        assert!(FieldSelector::parse("a=\\").is_err());
        assert_eq!(FieldSelector::parse("metadata.name=x,a!=y").unwrap().exact("metadata.name"), Some("x"));
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in "\\PC{0,40}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }

        #[test]
        fn field_selectors_print_as_they_parse(value in "[a-z,=\\\\]{0,12}") {
            let selector = FieldSelector { requirements: vec![FieldRequirement { field: "a.b".into(), equal: true, value }] };
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn label_selectors_print_as_they_parse(keys in proptest::collection::vec("[a-z]{1,5}", 0..4), values in proptest::collection::vec("[a-z]{1,5}", 2..4)) {
            let text = keys.iter().map(|k| format!("{k} in ({})", values.join(","))).collect::<Vec<_>>().join(",");
            let selector = LabelSelector::parse(&text).unwrap();
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
