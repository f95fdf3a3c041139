//! Field selectors.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::SelectorError;

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
