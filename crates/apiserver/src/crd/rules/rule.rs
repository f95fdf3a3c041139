//! One rule, compiled.

use api::field::{FieldError, FieldErrorKind, Path};
use expressions::types::Sized;
use expressions::{Bindings, Budget, CompileError, Environment, EvalError, Program, Type, Value as Cel};
use serde_json::Value;

use super::{Exhausted, Found, Part};

/// Longer messages of expressions are not shown.
const MAX_MESSAGE: usize = 5 * 1024;
const SELF: &str = "self";
const OLD_SELF: &str = "oldSelf";

pub struct Rule {
    program: Program,
    source: String,
    message: String,
    message_expression: Option<Program>,
    reason: FieldErrorKind,
    /// Names on the way from the value to the field that is told to be wrong.
    field_path: Vec<String>,
    optional_old_self: bool,
    uses_old: bool,
}

/// What of a rule does not compile.
pub enum Fault {
    Rule(CompileError),
    NotBool,
    MessageExpression(CompileError),
    NotText,
}

fn gives(program: &Program, wanted: &Type) -> bool {
    program.result_type().is_dyn() || program.result_type() == wanted
}

/// The variables of rules about a value.
pub fn environment(of: &Sized, optional_old_self: bool) -> Environment {
    let old = match optional_old_self {
        true => Sized { of: Type::optional(of.of.clone()), max: of.max },
        false => of.clone(),
    };
    Environment::kubernetes().with(SELF, of.clone()).with(OLD_SELF, old)
}

impl Rule {
    pub fn compile(rule: &Value, of: &Sized) -> Result<Self, Fault> {
        let text = |key: &str| rule[key].as_str().unwrap_or_default().trim();
        let optional_old_self = rule["optionalOldSelf"].as_bool().unwrap_or(false);
        let environment = environment(of, optional_old_self);
        let source = rule["rule"].as_str().unwrap_or_default();
        let program = Program::compile(source, &environment).map_err(Fault::Rule)?;
        if !gives(&program, &Type::Bool) {
            return Err(Fault::NotBool);
        }
        let message_expression = match text("messageExpression") {
            "" => None,
            source => Some(Program::compile(source, &environment).map_err(Fault::MessageExpression)?),
        };
        if message_expression.as_ref().is_some_and(|program| !gives(program, &Type::String)) {
            return Err(Fault::NotText);
        }
        let uses_old = program.mentions(OLD_SELF)
            || message_expression.as_ref().is_some_and(|program| program.mentions(OLD_SELF));
        Ok(Self {
            program,
            source: source.trim().to_owned(),
            message: text("message").to_owned(),
            message_expression,
            reason: match text("reason") {
                "FieldValueForbidden" => FieldErrorKind::Forbidden,
                "FieldValueRequired" => FieldErrorKind::Required,
                "FieldValueDuplicate" => FieldErrorKind::Duplicate,
                _ => FieldErrorKind::Invalid,
            },
            field_path: field_path(text("fieldPath")).unwrap_or_default(),
            optional_old_self,
            uses_old,
        })
    }

    /// What one evaluation of the rule and of its message costs at most.
    pub fn estimated_cost(&self) -> (u64, Option<u64>) {
        (self.program.estimated_cost(), self.message_expression.as_ref().map(Program::estimated_cost))
    }

    /// Whether the rule is about changes.
    pub fn is_transition(&self) -> bool {
        self.uses_old
    }

    pub(super) fn judge(
        &self,
        part: &Part<'_, '_>,
        of: &Type,
        path: &Path<'_>,
        budget: &mut Budget,
        found: &mut Found,
    ) -> Result<(), Exhausted> {
        let Part { value, old, kept, .. } = *part;
        if self.uses_old && old.is_none() && !self.optional_old_self {
            return Ok(());
        }
        let mut variables = Bindings::new();
        variables.set(SELF, Cel::typed(value, of));
        let old = old.map(|old| Cel::typed(old, of));
        match (old, self.optional_old_self) {
            (Some(old), true) => variables.set(OLD_SELF, Cel::some(old)),
            (Some(old), false) => variables.set(OLD_SELF, old),
            (None, true) => variables.set(OLD_SELF, Cel::Optional(None)),
            (None, false) => {}
        }
        // What cannot be evaluated is told of the type, whatever reason the author has for broken rules.
        let kind = part.schema.map_or("", |schema| schema.kind.as_str());
        let mut refuse = |detail: String| found.errors.invalid(path, kind, detail);
        match self.program.evaluate(&variables, budget) {
            Ok(result) if result.as_bool() == Some(true) => {}
            Ok(_) => {
                let message = self.told(&variables, budget);
                let error = self.error(path, value, message);
                // What has not been touched may stay as it is, unless the rule is about changes.
                let forgiven = kept && !self.uses_old;
                if forgiven { found.forgiven.push(error) } else { found.errors.push(error) }
            }
            Err(error @ EvalError::OutOfBudget) => {
                refuse(format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    self.shown()
                ));
                return Err(Exhausted);
            }
            Err(error @ EvalError::NoSuchOverload) => refuse(format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                self.shown()
            )),
            Err(error) => refuse(format!("{error} evaluating rule: {}", self.shown())),
        }
        Ok(())
    }

    fn shown(&self) -> &str {
        if self.message.is_empty() { &self.source } else { &self.message }
    }

    /// What the author says when the rule is broken.
    fn told(&self, variables: &Bindings<'_>, budget: &mut Budget) -> String {
        let made = self.message_expression.as_ref().and_then(|program| {
            let value = program.evaluate(variables, budget).ok()?;
            let text = value.as_str()?.trim().to_owned();
            let fits = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains(['\n', '\r']);
            fits.then_some(text)
        });
        made.unwrap_or_else(|| match self.message.as_str() {
            "" => format!("failed rule: {}", self.source),
            message => message.to_owned(),
        })
    }

    fn error(&self, path: &Path<'_>, value: &Value, detail: String) -> FieldError {
        fn below(
            path: &Path<'_>,
            names: &[String],
            error: impl FnOnce(&Path<'_>) -> FieldError,
        ) -> FieldError {
            match names.split_first() {
                None => error(path),
                Some((name, rest)) => below(&path.child(name), rest, error),
            }
        }
        below(path, &self.field_path, |path: &Path<'_>| match self.reason {
            // Objects and lists would say more than anybody reads.
            reason if value.is_object() || value.is_array() => {
                FieldError::without_value(reason, path, detail)
            }
            FieldErrorKind::Duplicate => FieldError::new(FieldErrorKind::Duplicate, path, value.clone(), ""),
            reason => FieldError::new(reason, path, value.clone(), detail),
        })
    }
}

/// The names in `.spec.foo` or `.spec['a.b']`; `None` for anything else.
pub fn field_path(path: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("['") {
            let (name, after) = inner.split_once("']")?;
            names.push(name.to_owned());
            rest = after;
        } else {
            let inner = rest.strip_prefix('.')?;
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            let (name, after) = inner.split_at(end);
            if name.is_empty()
                || name.contains(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            {
                return None;
            }
            names.push(name.to_owned());
            rest = after;
        }
    }
    Some(names)
}
