//! Kubernetes' format library: `format.dns1123Label().validate(name)`.

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::formats::NamedFormat;
use crate::value::{Opaque, Value};

/// A function of no arguments that gives the format.
macro_rules! constant {
    ($name:literal) => {
        (&[concat!("format.", $name, "() -> Format")], |_, _| Ok(format($name)))
    };
}

pub(super) const LIBRARY: Library = &[
    (&["format.named(string) -> optional<Format>"], named),
    (&["Format . validate(string) -> optional<list<string>>"], validate),
    constant!("dns1123Label"),
    constant!("dns1123Subdomain"),
    constant!("dns1035Label"),
    constant!("qualifiedName"),
    constant!("dns1123LabelPrefix"),
    constant!("dns1123SubdomainPrefix"),
    constant!("dns1035LabelPrefix"),
    constant!("labelValue"),
    constant!("uri"),
    constant!("uuid"),
    constant!("byte"),
    constant!("date"),
    constant!("datetime"),
];

fn format<'a>(name: &str) -> Value<'a> {
    NamedFormat::named(name).map_or(Value::Null, |format| Value::Opaque(Opaque::Format(format)))
}

fn named<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::String(name)] = arguments else { return mismatch() };
    Ok(Value::Optional(NamedFormat::named(name).map(|format| Value::Opaque(Opaque::Format(format)).into())))
}

fn validate<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Format(format)), Value::String(text)] = arguments else { return mismatch() };
    budget.work(text.len().saturating_mul(2))?;
    Ok(match format.problem(text) {
        Some(problem) => Value::some(Value::list(vec![Value::string(problem)])),
        None => Value::Optional(None),
    })
}
