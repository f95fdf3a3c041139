//! Kubernetes' regex library: `find`, `findAll`.

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::value::Value;

pub(super) const LIBRARY: Library = &[
    (&["string . find(string) -> string"], find),
    (
        &["string . findAll(string) -> list<string>", "string . findAll(string, int) -> list<string>"],
        find_all,
    ),
];

fn find<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole), Value::String(pattern)] = arguments else { return mismatch() };
    budget.work(whole.len())?;
    let found = budget.pattern(pattern)?.find(whole).map_or("", |found| found.as_str()).to_owned();
    Ok(Value::string(found))
}

fn find_all<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let (whole, pattern, count) = match arguments {
        [Value::String(whole), Value::String(pattern)] => (whole, pattern, usize::MAX),
        [Value::String(whole), Value::String(pattern), Value::Int(count)] => {
            (whole, pattern, usize::try_from(*count).unwrap_or(usize::MAX))
        }
        _ => return mismatch(),
    };
    budget.work(whole.len())?;
    let pattern = budget.pattern(pattern)?;
    let mut found = Vec::new();
    for part in pattern.find_iter(whole).take(count) {
        budget.work(part.len() + 64)?;
        found.push(Value::string(part.as_str()));
    }
    Ok(Value::list(found))
}
