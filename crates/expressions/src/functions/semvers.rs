//! Kubernetes' semver library. With a second argument `true`, versions are normalized first: a leading `v` goes,
//! missing parts become 0, leading zeros go.

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Opaque, Value};

pub(super) const LIBRARY: Library = &[
    (&["isSemver(string) -> bool", "isSemver(string, bool) -> bool"], is_semver),
    (&["semver(string) -> Semver", "semver(string, bool) -> Semver"], semver),
    (&["Semver . major() -> int"], major),
    (&["Semver . minor() -> int"], minor),
    (&["Semver . patch() -> int"], patch),
    (&["Semver . isLessThan(Semver) -> bool"], is_less_than),
    (&["Semver . isGreaterThan(Semver) -> bool"], is_greater_than),
    (&["Semver . compareTo(Semver) -> int"], compare_to),
];

fn parse(arguments: &[Value<'_>]) -> Result<semver::Version, EvalError> {
    let (text, normalize) = match arguments {
        [Value::String(text)] => (text, false),
        [Value::String(text), Value::Bool(normalize)] => (text, *normalize),
        _ => return mismatch(),
    };
    let parsed =
        if normalize { semver::Version::parse(&normalized(text)) } else { semver::Version::parse(text) };
    parsed.map_err(EvalError::failed)
}

fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut parts: Vec<&str> = core.splitn(3, '.').collect();
    while parts.len() < 3 {
        parts.push("0");
    }
    let plain = |part: &&str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        digits => digits.to_owned(),
    };
    let parts: Vec<String> = parts.iter().map(plain).collect();
    format!("{}{rest}", parts.join("."))
}

fn is_semver<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Bool(parse(arguments).is_ok()))
}

fn semver<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Opaque(Opaque::Semver(parse(arguments)?.into())))
}

fn part<'a>(arguments: &[Value<'a>], of: impl Fn(&semver::Version) -> u64) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Semver(version))] = arguments else { return mismatch() };
    i64::try_from(of(version)).map(Value::Int).map_err(EvalError::failed)
}

fn major<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    part(arguments, |version| version.major)
}

fn minor<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    part(arguments, |version| version.minor)
}

fn patch<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    part(arguments, |version| version.patch)
}

/// Build metadata does not count.
fn order(arguments: &[Value<'_>]) -> Result<std::cmp::Ordering, EvalError> {
    let [Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))] = arguments else {
        return mismatch();
    };
    Ok(a.cmp_precedence(b))
}

fn is_less_than<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Bool(order(arguments)?.is_lt()))
}

fn is_greater_than<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Bool(order(arguments)?.is_gt()))
}

fn compare_to<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Int(order(arguments)? as i64))
}
