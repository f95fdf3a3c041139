//! Whether an object satisfies its schema, in the words of upstream's validator.

use serde_json::{Number, Value};

use super::format::Format;
use super::same::{self, OldItems};
use super::{Additional, Checks, Structural, Type};
use crate::field::{FieldError, FieldErrorKind, FieldErrors, Path};

/// What is wrong with the object. Of parts that are as they were in the `old` object, nothing is told.
pub fn validate(object: &Value, old: Option<&Value>, schema: &Structural) -> FieldErrors {
    let mut found = Found::default();
    node(object, old, schema, &Path::ROOT, &mut found);
    found.errors
}

/// As [`validate`], of a value somewhere in an object: defaults are judged so.
pub fn validate_at(value: &Value, schema: &Structural, path: &Path<'_>) -> FieldErrors {
    let mut found = Found::default();
    node(value, None, schema, path, &mut found);
    found.errors
}

/// Errors, and how much was looked at: of several alternatives that all fail, the one that got furthest is told about.
#[derive(Default)]
struct Found {
    errors: FieldErrors,
    matches: usize,
}

impl Found {
    fn error(&mut self, kind: FieldErrorKind, path: &Path<'_>, value: impl Into<Value>, problem: &str) {
        let name = path.to_string();
        self.errors.push(FieldError::new(kind, path, value, format!("{name} in body {problem}")));
    }

    fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, problem: &str) {
        self.error(FieldErrorKind::Invalid, path, value, problem);
    }

    /// About a combination of schemas; upstream says these of the object as a whole.
    fn composite(&mut self, path: &Path<'_>, problem: &str) {
        let detail = format!("\"{path}\" {problem}");
        self.errors.push(FieldError::new(FieldErrorKind::Invalid, &Path::ROOT, "", detail));
    }

    fn merge(&mut self, other: Found) {
        self.errors.extend(other.errors);
        self.matches += other.matches;
    }
}

fn node(value: &Value, old: Option<&Value>, schema: &Structural, path: &Path<'_>, found: &mut Found) {
    let before = found.errors.len();
    kind(value, schema, path, found);
    if let Some(checks) = &schema.checks {
        combinations(value, old, checks, path, found);
        scalar(value, checks, path, found);
    }
    match value {
        Value::Array(items) => array(items, old, schema, path, found),
        Value::Object(entries) => object(entries, old, schema, path, found),
        _ => {}
    }
    found.matches += 1;
    // What was wrong before and has not been touched is forgiven.
    if found.errors.len() > before && old.is_some_and(|old| same::same(value, old, Some(schema))) {
        found.errors.0.truncate(before);
    }
}

fn kind(value: &Value, schema: &Structural, path: &Path<'_>, found: &mut Found) {
    if value.is_null() {
        if !schema.nullable && schema.judges_null() {
            let wanted = if schema.int_or_string { "integer,string" } else { schema.kind.as_str() };
            found.error(
                FieldErrorKind::TypeInvalid,
                path,
                "null",
                &format!("must be of type {wanted}: \"null\""),
            );
        }
        return;
    }
    let actual = match value {
        Value::Null => Type::Any,
        Value::Bool(_) => Type::Boolean,
        Value::String(_) => Type::String,
        Value::Array(_) => Type::Array,
        Value::Object(_) => Type::Object,
        Value::Number(number) if is_whole(number) => Type::Integer,
        Value::Number(_) => Type::Number,
    };
    let (fits, wanted) = match schema.kind {
        _ if schema.int_or_string => (matches!(actual, Type::Integer | Type::String), "integer,string"),
        Type::Any => (true, ""),
        Type::Number => (matches!(actual, Type::Integer | Type::Number), "number"),
        kind => (actual == kind, kind.as_str()),
    };
    if !fits {
        let actual = actual.as_str();
        let problem = format!("must be of type {wanted}: \"{actual}\"");
        found.error(FieldErrorKind::TypeInvalid, path, actual, &problem);
    }
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

fn combinations(value: &Value, old: Option<&Value>, checks: &Checks, path: &Path<'_>, found: &mut Found) {
    let run = |schema: &Structural| {
        let mut inner = Found::default();
        node(value, old, schema, path, &mut inner);
        inner
    };
    if !checks.any_of.is_empty() {
        let mut best: Option<Found> = None;
        let mut good = false;
        for schema in &checks.any_of {
            let inner = run(schema);
            if inner.errors.is_empty() {
                good = true;
                break;
            }
            further(&mut best, inner);
        }
        if !good {
            found.composite(path, "must validate at least one schema (anyOf)");
            best.into_iter().for_each(|best| found.merge(best));
        }
    }
    if !checks.one_of.is_empty() {
        let mut best: Option<Found> = None;
        let mut good = 0;
        for schema in &checks.one_of {
            let inner = run(schema);
            if inner.errors.is_empty() {
                good += 1;
            } else if good == 0 {
                further(&mut best, inner);
            }
        }
        match good {
            0 => {
                found.composite(path, "must validate one and only one schema (oneOf). Found none valid");
                best.into_iter().for_each(|best| found.merge(best));
            }
            1 => {}
            several => found.composite(
                path,
                &format!("must validate one and only one schema (oneOf). Found {several} valid alternatives"),
            ),
        }
    }
    if !checks.all_of.is_empty() {
        let mut good = 0;
        for schema in &checks.all_of {
            let inner = run(schema);
            good += usize::from(inner.errors.is_empty());
            found.merge(inner);
        }
        if good == 0 {
            found.composite(path, "must validate all the schemas (allOf). None validated");
        } else if good < checks.all_of.len() {
            found.composite(path, "must validate all the schemas (allOf)");
        }
    }
    if let Some(not) = &checks.not
        && run(not).errors.is_empty()
    {
        found.composite(path, "must not validate the schema (not)");
    }
}

fn further(best: &mut Option<Found>, inner: Found) {
    if best.as_ref().is_none_or(|best| inner.matches > best.matches) {
        *best = Some(inner);
    }
}

fn scalar(value: &Value, checks: &Checks, path: &Path<'_>, found: &mut Found) {
    match value {
        Value::String(text) => string(text, checks, path, found),
        Value::Number(number) => bounds(number, checks, path, found),
        _ => {}
    }
    if !checks.allowed.is_empty()
        && !value.is_null()
        && !checks.allowed.iter().any(|allowed| same(allowed, value))
    {
        let supported: Vec<String> = checks
            .allowed
            .iter()
            .map(|allowed| allowed.as_str().map_or_else(|| allowed.to_string(), str::to_owned))
            .collect();
        let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
        found.errors.not_supported(path, value.clone(), &supported);
    }
}

/// 1 and 1.0 are the same number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other) == std::cmp::Ordering::Equal,
        _ => one == other,
    }
}

/// Tells one problem of a text: what is too short may match no pattern either.
fn string(text: &str, checks: &Checks, path: &Path<'_>, found: &mut Found) {
    if checks.max_length.is_some() || checks.min_length.is_some() {
        let length = text.chars().count() as u64;
        if let Some(max) = checks.max_length.filter(|max| length > *max) {
            return found.errors.too_long(path, usize::try_from(max).unwrap_or(usize::MAX));
        }
        if let Some(min) = checks.min_length.filter(|min| length < *min) {
            return found.invalid(path, text, &format!("should be at least {min} chars long"));
        }
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        return found.invalid(path, text, &format!("should match '{}'", pattern.as_str()));
    }
    if let Some(format) = checks.format.filter(|format| !format.holds(text)) {
        let problem = format!("must be of type {}: {}", format.as_str(), crate::field::quote(text));
        found.error(FieldErrorKind::TypeInvalid, path, text, &problem);
    }
}

/// A number has to fit what its format says: `int32`, `int64`, `float`.
fn fits(number: &Number, format: Format, path: &Path<'_>, found: &mut Found) {
    let float = number.as_f64().unwrap_or(0.0);
    let (good, kind) = match format {
        Format::Int32 => {
            (number.as_i64().map_or(float.abs() < 2e9, |whole| i32::try_from(whole).is_ok()), "integer")
        }
        Format::Int64 => (number.is_i64() || float.abs() < 9.2e18, "integer"),
        Format::Float => (float.abs() <= f64::from(f32::MAX), "number"),
        _ => return,
    };
    if !good {
        let detail =
            format!("Checked value must be of type {kind} with format {} in {path}", format.as_str());
        found.errors.push(FieldError::new(FieldErrorKind::Invalid, &Path::ROOT, "", detail));
    }
}

fn bounds(number: &Number, checks: &Checks, path: &Path<'_>, found: &mut Found) {
    if let Some(format) = checks.format {
        fits(number, format, path, found);
    }
    use std::cmp::Ordering::{Equal, Greater, Less};
    let mut refuse = |problem: String| found.invalid(path, Value::Number(number.clone()), &problem);
    if let Some(max) = &checks.maximum {
        match (compare(number, max), checks.exclusive_maximum) {
            (Greater | Equal, true) => refuse(format!("should be less than {}", plain(max))),
            (Greater, false) => refuse(format!("should be less than or equal to {}", plain(max))),
            _ => {}
        }
    }
    if let Some(min) = &checks.minimum {
        match (compare(number, min), checks.exclusive_minimum) {
            (Less | Equal, true) => refuse(format!("should be greater than {}", plain(min))),
            (Less, false) => refuse(format!("should be greater than or equal to {}", plain(min))),
            _ => {}
        }
    }
    if let Some(factor) = &checks.multiple_of
        && !is_multiple(number, factor)
    {
        refuse(format!("should be a multiple of {}", plain(factor)));
    }
}

fn compare(one: &Number, other: &Number) -> std::cmp::Ordering {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => one.as_f64().unwrap_or(0.0).total_cmp(&other.as_f64().unwrap_or(0.0)),
    }
}

fn is_multiple(number: &Number, factor: &Number) -> bool {
    if let (Some(number), Some(factor)) = (number.as_i64(), factor.as_i64()) {
        return factor == 0 || number.checked_rem(factor).unwrap_or(0) == 0;
    }
    let (number, factor) = (number.as_f64().unwrap_or(0.0), factor.as_f64().unwrap_or(0.0));
    factor == 0.0 || (number / factor).fract() == 0.0
}

/// As Go prints a float: without a fraction where there is none.
fn plain(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
        _ => number.to_string(),
    }
}

fn array(items: &[Value], old: Option<&Value>, schema: &Structural, path: &Path<'_>, found: &mut Found) {
    if let Some(of_items) = schema.items.as_deref() {
        let known = OldItems::of(old, Some(schema));
        for (index, item) in items.iter().enumerate() {
            let old = known.as_ref().and_then(|known| known.find(item));
            node(item, old, of_items, &path.index(index), found);
        }
    }
    let Some(checks) = &schema.checks else { return };
    let count = items.len() as u64;
    if let Some(min) = checks.min_items.filter(|min| count < *min) {
        found.invalid(path, count, &format!("should have at least {min} items"));
    }
    if let Some(max) = checks.max_items.filter(|max| count > *max) {
        found.errors.too_many(path, items.len(), usize::try_from(max).unwrap_or(usize::MAX));
    }
}

fn object(
    entries: &serde_json::Map<String, Value>,
    old: Option<&Value>,
    schema: &Structural,
    path: &Path<'_>,
    found: &mut Found,
) {
    if let Some(checks) = &schema.checks {
        let count = entries.len() as u64;
        if let Some(min) = checks.min_properties.filter(|min| count < *min) {
            return found.invalid(path, count, &format!("should have at least {min} properties"));
        }
        if let Some(max) = checks.max_properties.filter(|max| count > *max) {
            return found.errors.too_many(path, entries.len(), usize::try_from(max).unwrap_or(usize::MAX));
        }
        for name in checks.required.iter().filter(|name| !entries.contains_key(&***name)) {
            found.errors.required(&path.child(name), "");
        }
    }
    for (key, value) in entries {
        let below = match (schema.field(key), &schema.additional) {
            (Some(schema), _) => schema,
            (None, Additional::Of(values)) => values,
            _ => continue,
        };
        node(value, old.and_then(|old| old.get(key)), below, &path.child(key), found);
    }
}
