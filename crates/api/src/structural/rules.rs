//! `x-kubernetes-validations`: what an author demands in the Common Expression Language. Here only as data; whoever
//! evaluates expressions evaluates these.

use serde_json::Value;

/// One rule, in the author's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub rule: Box<str>,
    pub message: Box<str>,
    pub message_expression: Box<str>,
    pub reason: Box<str>,
    pub field_path: Box<str>,
    /// `oldSelf` is there on creation too, as an optional.
    pub optional_old_self: Option<bool>,
}

impl Rule {
    pub(super) fn parse(rule: &Value) -> Self {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default().into();
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool),
        }
    }
}
