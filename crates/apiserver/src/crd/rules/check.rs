//! Whether the rules of a definition compile, and whether they can be afforded.

use api::field::{FieldError, FieldErrorKind, FieldErrors, Path};
use expressions::schema;
use serde_json::Value;

use super::MAX_DEPTH;
use super::rule::{Fault, Rule, field_path};

/// What one rule may cost at most, for all values that it is about, by estimate.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may.
const SCHEMA_LIMIT: u64 = 100_000_000;
const ADVICE: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Rules that were accepted before stay acceptable: what they cost may be estimated anew.
pub fn check_definition(crd: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let versions = crd["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
    let common = versions.iter().all(|version| version["schema"] == versions[0]["schema"]);
    let known: Vec<Value> =
        old.and_then(|old| old["spec"]["versions"].as_array()).into_iter().flatten().map(schema).collect();
    let spec = Path::new("spec");
    let list = spec.child("versions");
    for (index, version) in versions.iter().enumerate().take(if common { 1 } else { usize::MAX }) {
        let schema = &version["schema"]["openAPIV3Schema"];
        if known.contains(schema) {
            continue;
        }
        let at = list.index(index);
        let parent = if common { spec.child("validation") } else { at.child("schema") };
        check_schema(schema, &parent.child("openAPIV3Schema"), errors);
    }
}

fn check_schema(schema: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut total = 0u64;
    let place = Place { root: true, cardinality: 1, uncorrelatable: None, depth: 0 };
    node(schema, &place, path, &mut total, errors);
    if total > SCHEMA_LIMIT {
        errors.forbidden(
            path,
            format!(
                "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of {} {ADVICE}",
                factor(total, SCHEMA_LIMIT)
            ),
        );
    }
}

struct Place {
    root: bool,
    /// How many values of this part an object can have.
    cardinality: u64,
    /// Within what the old value of this part cannot be found.
    uncorrelatable: Option<String>,
    depth: usize,
}

impl Place {
    fn below(&self, count: u64, lost_within: Option<&Path<'_>>) -> Self {
        Self {
            root: false,
            cardinality: self.cardinality.saturating_mul(count),
            uncorrelatable: self.uncorrelatable.clone().or_else(|| lost_within.map(ToString::to_string)),
            depth: self.depth + 1,
        }
    }
}

fn node(written: &Value, place: &Place, path: &Path<'_>, total: &mut u64, errors: &mut FieldErrors) {
    if place.depth > MAX_DEPTH || !written.is_object() {
        return;
    }
    let rules = written["x-kubernetes-validations"].as_array().map_or(&[][..], Vec::as_slice);
    let is_container = written["additionalProperties"].is_object() || written["items"].is_object();
    let sized = (!rules.is_empty() || is_container).then(|| schema::sized(written, place.root));
    if let Some(sized) = &sized {
        let list = path.child("x-kubernetes-validations");
        for (index, rule_written) in rules.iter().enumerate() {
            rule(rule_written, written, sized, place, &list.index(index), total, errors);
        }
    }
    let count = sized.map_or(1, |sized| sized.max);
    let properties = path.child("properties");
    for (name, property) in written["properties"].as_object().into_iter().flatten() {
        node(property, &place.below(1, None), &properties.key(name), total, errors);
    }
    node(
        &written["additionalProperties"],
        &place.below(count, None),
        &path.child("additionalProperties"),
        total,
        errors,
    );
    let by_key = written["x-kubernetes-list-type"] == "map";
    let lost = if by_key { None } else { Some(path) };
    node(&written["items"], &place.below(count, lost), &path.child("items"), total, errors);
}

/// A rule as upstream shows it: the fields of its type, in their order.
fn shown(rule: &Value) -> String {
    let text = |key: &str| Value::from(rule[key].as_str().unwrap_or_default());
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        rule["reason"],
        text("fieldPath"),
        rule["optionalOldSelf"],
    )
}

/// Says it of the whole rule.
fn refuse(rule: &Value, path: &Path<'_>, detail: impl std::fmt::Display, errors: &mut FieldErrors) {
    let detail = format!("{}: {detail}", shown(rule));
    errors.push(FieldError::without_value(FieldErrorKind::Invalid, path, detail));
}

/// Whether there is such a field in what the rule is about.
fn leads_somewhere(schema: &Value, names: &[String]) -> bool {
    let mut schema = schema;
    for name in names {
        let property = &schema["properties"][name];
        schema = if property.is_object() { property } else { &schema["additionalProperties"] };
        if !schema.is_object() {
            return false;
        }
    }
    !names.is_empty()
}

fn rule(
    written: &Value,
    schema: &Value,
    of: &expressions::types::Sized,
    place: &Place,
    path: &Path<'_>,
    total: &mut u64,
    errors: &mut FieldErrors,
) {
    let text = |key: &str| written[key].as_str().unwrap_or_default();
    let (source, message) = (text("rule"), text("message"));
    let rule_path = path.child("rule");
    if source.trim().is_empty() {
        return errors.required(&rule_path, "rule is not specified");
    }
    if message.trim().is_empty() && !message.is_empty() {
        errors.invalid(&path.child("message"), message, "must be non-empty if specified");
    } else if message.trim().contains('\n') {
        errors.invalid(&path.child("message"), message, "must not contain line breaks");
    } else if message.is_empty() && source.trim().contains('\n') {
        errors.required(&path.child("message"), "message must be specified if rule contains line breaks");
    }
    let reason = text("reason");
    if !reason.is_empty() && !REASONS.contains(&reason) {
        errors.not_supported(&path.child("reason"), reason, &REASONS);
    }
    let at = text("fieldPath");
    if !at.is_empty() {
        let path = path.child("fieldPath");
        if at.trim().is_empty() {
            errors.invalid(&path, at, "must be non-empty if specified");
        } else if at.contains('\n') {
            errors.invalid(&path, at, "must not contain line breaks");
        }
        if !field_path(at).is_some_and(|names| leads_somewhere(schema, &names)) {
            errors.invalid(&path, at, "must be a valid path");
        }
    }
    let message_path = path.child("messageExpression");
    let message_expression = text("messageExpression");
    if !message_expression.is_empty() && message_expression.trim().is_empty() {
        errors.required(&message_path, "messageExpression must be non-empty if specified");
    }
    let compiled = match Rule::compile(written, of) {
        Ok(compiled) => compiled,
        Err(Fault::Rule(error)) => {
            return refuse(written, &rule_path, format!("compilation failed: {error}"), errors);
        }
        Err(Fault::NotBool) => {
            return refuse(written, &rule_path, "cel expression must evaluate to a bool", errors);
        }
        Err(Fault::MessageExpression(error)) => {
            let detail = format!("messageExpression compilation failed: {error}");
            return refuse(written, &message_path, detail, errors);
        }
        Err(Fault::NotText) => {
            let detail = "messageExpression must evaluate to a string";
            return refuse(written, &message_path, detail, errors);
        }
    };
    if written["optionalOldSelf"].is_boolean() && !compiled.is_transition() {
        let detail = "may not be set if oldSelf is not used in rule";
        errors.invalid(&path.child("optionalOldSelf"), written["optionalOldSelf"].clone(), detail);
    }
    if compiled.is_transition()
        && let Some(within) = &place.uncorrelatable
    {
        let detail =
            format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
        return errors.invalid(&rule_path, source, detail);
    }
    let (cost, message_cost) = compiled.estimated_cost();
    afford("estimated rule cost", cost, place, &rule_path, total, errors);
    if let Some(cost) = message_cost {
        afford(
            "estimated messageExpression cost",
            cost,
            place,
            &path.child("messageExpression"),
            total,
            errors,
        );
    }
}

fn afford(what: &str, cost: u64, place: &Place, path: &Path<'_>, total: &mut u64, errors: &mut FieldErrors) {
    let cost = cost.saturating_mul(place.cardinality);
    *total = total.saturating_add(cost);
    if cost > RULE_LIMIT {
        let factor = factor(cost, RULE_LIMIT);
        errors.forbidden(path, format!("{what} exceeds budget by factor of {factor} {ADVICE}"));
    }
}

fn factor(cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    if factor > 100.0 { "more than 100x".to_owned() } else { format!("{factor:.1}x") }
}
