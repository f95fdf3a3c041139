//! Field paths and field errors: the vocabulary in which validation tells a user what is wrong with an object.
//!
//! A [`Path`] is a chain of borrowed segments on the stack; it is only rendered when an error is recorded, so that
//! validating a good object allocates nothing. The wording of [`FieldError`] is kube-apiserver's, since people and
//! tools (kubectl, test suites, operators) match on it.

use serde_json::Value;
use std::collections::HashSet;
use std::fmt::{self, Display, Write as _};

/// One step of a [`Path`].
#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Root,
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

/// The way to a field, such as `spec.containers[0].env[1].name` or `metadata.annotations[example.com/x]`.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

impl<'a> Path<'a> {
    /// The path of the object itself; it renders as nothing in front of its children.
    pub const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    pub const fn new(name: &'a str) -> Path<'a> {
        Path { parent: None, segment: Segment::Child(name) }
    }
    pub const fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Child(name) }
    }
    pub const fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }
    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Depth is that of the code that built the path, not of the input: recursion is bounded.
        if let Some(parent) = self.parent {
            Display::fmt(parent, f)?;
        }
        let first = self.parent.is_none_or(|p| p.parent.is_none() && matches!(p.segment, Segment::Root));
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Child(name) if first => f.write_str(name),
            Segment::Child(name) => write!(f, ".{name}"),
            Segment::Index(i) => write!(f, "[{i}]"),
            Segment::Key(k) => write!(f, "[{k}]"),
        }
    }
}

/// What is wrong with the field; the names are those of `metav1.CauseType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    /// The `type` of a cause in `metav1.Status`.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    /// Whether an object that has such an error is too odd for rules that rely on its schema.
    pub const fn blocks_rules(self) -> bool {
        matches!(
            self,
            Self::NotSupported | Self::Required | Self::TooLong | Self::TooMany | Self::TypeInvalid
        )
    }

    /// Whether the offending value is part of the message.
    const fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::Internal)
    }
}

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {}", self.body())]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub field: String,
    /// What is wrong; some errors leave it out.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    pub fn new(
        kind: FieldErrorKind,
        path: &Path<'_>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        // An error at the object itself is shown as "<nil>" by upstream's clients.
        let mut field = path.to_string();
        if field.is_empty() {
            field.push_str("<nil>");
        }
        Self { kind, field, value: Some(value.into()), detail: detail.into() }
    }

    /// The value is not shown: it is large, or says nothing.
    pub fn without_value(kind: FieldErrorKind, path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self { value: None, ..Self::new(kind, path, Value::Null, detail) }
    }

    /// The message without the field name: `Invalid value: "x": must be ...`.
    pub fn body(&self) -> String {
        let mut out = String::from(self.kind.words());
        if let Some(value) = self.value.as_ref().filter(|_| self.kind.shows_value()) {
            out.push_str(": ");
            match value {
                Value::String(s) => out.push_str(&quote(s)),
                Value::Null => out.push_str("null"),
                other => {
                    // Bounded: a message must not repeat a megabyte of hostile input.
                    let text = other.to_string();
                    out.push_str(truncate(&text, 2048));
                }
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

/// Cuts `text` at a character boundary at most `max` bytes in.
fn truncate(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A value as Go prints it (`%v`): `map[a:1 b:[x y]]`.
pub struct GoValue<'a>(pub &'a Value);

impl fmt::Display for GoValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = |first: &mut bool| if std::mem::take(first) { "" } else { " " };
        let mut first = true;
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(value) => write!(f, "{value}"),
            Value::String(value) => f.write_str(value),
            Value::Array(items) => {
                f.write_str("[")?;
                items.iter().try_for_each(|item| write!(f, "{}{}", space(&mut first), GoValue(item)))?;
                f.write_str("]")
            }
            Value::Object(map) => {
                f.write_str("map[")?;
                map.iter().try_for_each(|(key, value)| {
                    write!(f, "{}{key}:{}", space(&mut first), GoValue(value))
                })?;
                f.write_str("]")
            }
        }
    }
}

/// Quotes as Go's `%q` does, which is how names and values appear in every API message.
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Nobody reads more of them, and a large hostile object must not be answered with a larger message.
const MAX_ERRORS: usize = 1000;

/// All that is wrong with an object (the first thousand things); empty when it is valid.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    pub const fn new() -> Self {
        Self(Vec::new())
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }
    pub fn push(&mut self, error: FieldError) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(error);
        }
    }
    pub fn extend(&mut self, other: FieldErrors) {
        other.0.into_iter().for_each(|error| self.push(error));
    }

    pub fn required(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::new(FieldErrorKind::Required, path, Value::Null, detail));
    }
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::new(FieldErrorKind::Invalid, path, value, detail));
    }
    pub fn type_invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::new(FieldErrorKind::TypeInvalid, path, value, detail));
    }
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(FieldError::new(FieldErrorKind::Duplicate, path, value, ""));
    }
    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(FieldError::new(FieldErrorKind::NotFound, path, value, ""));
    }
    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::new(FieldErrorKind::Forbidden, path, Value::Null, detail));
    }
    /// `supported` in the order in which it is to be listed.
    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        let mut detail = String::new();
        if !supported.is_empty() {
            let quoted: Vec<String> = supported.iter().map(|s| quote(s)).collect();
            detail = format!("supported values: {}", quoted.join(", "));
        }
        self.push(FieldError::new(FieldErrorKind::NotSupported, path, value, detail));
    }
    pub fn too_long(&mut self, path: &Path<'_>, max: usize) {
        let unit = if max == 1 { "byte" } else { "bytes" };
        self.push(FieldError::new(
            FieldErrorKind::TooLong,
            path,
            Value::Null,
            format!("may not be more than {max} {unit}"),
        ));
    }
    pub fn too_many(&mut self, path: &Path<'_>, actual: usize, max: usize) {
        let unit = if max == 1 { "item" } else { "items" };
        self.push(FieldError::new(
            FieldErrorKind::TooMany,
            path,
            actual,
            format!("must have at most {max} {unit}"),
        ));
    }
    pub fn internal(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::new(FieldErrorKind::Internal, path, Value::Null, detail));
    }
}

impl Display for FieldErrors {
    /// One error as it is; several as `[a, b]`, each message once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen = HashSet::new();
        let messages: Vec<String> =
            self.iter().map(ToString::to_string).filter(|m| seen.insert(m.clone())).collect();
        match messages.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<FieldError> for FieldErrors {
    fn from_iter<T: IntoIterator<Item = FieldError>>(iter: T) -> Self {
        Self(iter.into_iter().take(MAX_ERRORS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_render_as_users_know_them() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let c0 = containers.index(0);
        assert_eq!(c0.child("name").to_string(), "spec.containers[0].name");
        let root = Path::ROOT;
        let metadata = root.child("metadata");
        let annotations = metadata.child("annotations");
        assert_eq!(annotations.key("a.b/c").to_string(), "metadata.annotations[a.b/c]");
    }

    #[test]
    fn messages() {
        let path = Path::new("spec");
        let mut e = FieldErrors::new();
        e.required(&path, "");
        e.invalid(&path, "a\"b", "must be x");
        e.invalid(&path, 5, "must be y");
        e.invalid(&path, json!({"app": "x"}), "no");
        e.not_supported(&path, "Foo", &["A", "B"]);
        e.duplicate(&path, "x");
        e.forbidden(&path, "may not");
        e.too_long(&path, 10);
        e.too_many(&path, 11, 10);
        let got: Vec<String> = e.iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "spec: Required value",
                r#"spec: Invalid value: "a\"b": must be x"#,
                "spec: Invalid value: 5: must be y",
                r#"spec: Invalid value: {"app":"x"}: no"#,
                r#"spec: Unsupported value: "Foo": supported values: "A", "B""#,
                r#"spec: Duplicate value: "x""#,
                "spec: Forbidden: may not",
                "spec: Too long: may not be more than 10 bytes",
                "spec: Too many: 11: must have at most 10 items",
            ]
        );
    }

    #[test]
    fn several_errors_are_bracketed_and_said_once() {
        let path = Path::new("a");
        let mut e = FieldErrors::new();
        e.required(&path, "");
        assert_eq!(e.to_string(), "a: Required value");
        e.required(&path, "");
        assert_eq!(e.to_string(), "a: Required value");
        e.forbidden(&path, "no");
        assert_eq!(e.to_string(), "[a: Required value, a: Forbidden: no]");
    }
}
