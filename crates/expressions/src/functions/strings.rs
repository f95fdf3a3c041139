//! Strings: the standard methods, and the extended ones (`ext.Strings` version 2). Positions are of characters.

use super::{Evaluated, Library, mismatch, text};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::Value;

pub(super) const LIBRARY: Library = &[
    (&["string . contains(string) -> bool"], contains),
    (&["string . startsWith(string) -> bool"], starts_with),
    (&["string . endsWith(string) -> bool"], ends_with),
    (&["string . matches(string) -> bool", "matches(string, string) -> bool"], matches),
    (&["string . charAt(int) -> string"], char_at),
    (&["string . indexOf(string) -> int", "string . indexOf(string, int) -> int"], index_of),
    (&["string . lastIndexOf(string) -> int", "string . lastIndexOf(string, int) -> int"], last_index_of),
    (&["list<string> . join() -> string", "list<string> . join(string) -> string"], join),
    (&["string . lowerAscii() -> string"], lower_ascii),
    (&["string . upperAscii() -> string"], upper_ascii),
    (
        &["string . replace(string, string) -> string", "string . replace(string, string, int) -> string"],
        replace,
    ),
    (&["string . split(string) -> list<string>", "string . split(string, int) -> list<string>"], split),
    (&["string . substring(int) -> string", "string . substring(int, int) -> string"], substring),
    (&["string . trim() -> string"], trim),
    (&["strings.quote(string) -> string"], quote),
    (&["jsonpatch.escapeKey(string) -> string"], escape_key),
];

fn contains<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole), Value::String(part)] = arguments else { return mismatch() };
    budget.work(whole.len())?;
    Ok(Value::Bool(whole.contains(&**part)))
}

fn starts_with<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole), Value::String(part)] = arguments else { return mismatch() };
    budget.work(part.len().min(whole.len()))?;
    Ok(Value::Bool(whole.starts_with(&**part)))
}

fn ends_with<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole), Value::String(part)] = arguments else { return mismatch() };
    budget.work(part.len().min(whole.len()))?;
    Ok(Value::Bool(whole.ends_with(&**part)))
}

fn matches<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole), Value::String(pattern)] = arguments else { return mismatch() };
    budget.work(whole.len())?;
    Ok(Value::Bool(budget.pattern(pattern)?.is_match(whole)))
}

/// The byte at which character number `position` begins; the end counts as a character.
fn offset(whole: &str, position: i64) -> Result<usize, EvalError> {
    let out_of_range = || EvalError::failed(format!("index out of range: {position}"));
    let wanted = usize::try_from(position).map_err(|_| out_of_range())?;
    let mut starts = whole.char_indices().map(|(at, _)| at).chain([whole.len()]);
    starts.nth(wanted).ok_or_else(out_of_range)
}

/// The same; nothing where the position is the end or beyond it.
fn offset_within(whole: &str, position: i64) -> Result<Option<usize>, EvalError> {
    match offset(whole, position) {
        Ok(start) => Ok(Some(start).filter(|start| *start < whole.len())),
        Err(error) if position < 0 => Err(error),
        Err(_) => Ok(None),
    }
}

fn position(whole: &str, offset: usize) -> i64 {
    whole.get(..offset).unwrap_or_default().chars().count() as i64
}

fn char_at<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole), Value::Int(at)] = arguments else { return mismatch() };
    budget.work(whole.len())?;
    let start = offset(whole, *at)?;
    let character = whole[start..].chars().next().map(String::from);
    Ok(Value::string(character.unwrap_or_default()))
}

fn index_of<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let (whole, part, from) = match arguments {
        [Value::String(whole), Value::String(part)] => (whole, part, 0),
        [Value::String(whole), Value::String(part), Value::Int(from)] => (whole, part, *from),
        _ => return mismatch(),
    };
    budget.work(whole.len())?;
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    // Nothing is found beyond the end.
    let Some(start) = offset_within(whole, from)? else { return Ok(Value::Int(-1)) };
    let found = whole[start..].find(&**part);
    Ok(Value::Int(found.map_or(-1, |at| position(whole, start + at))))
}

fn last_index_of<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let (whole, part, up_to) = match arguments {
        [Value::String(whole), Value::String(part)] => (whole, part, None),
        [Value::String(whole), Value::String(part), Value::Int(up_to)] => (whole, part, Some(*up_to)),
        _ => return mismatch(),
    };
    budget.work(whole.len())?;
    if part.is_empty() {
        return Ok(Value::Int(up_to.unwrap_or_else(|| position(whole, whole.len()))));
    }
    let start = match up_to {
        Some(up_to) => match offset_within(whole, up_to)? {
            Some(start) => start,
            None => return Ok(Value::Int(-1)),
        },
        None => whole.len(),
    };
    // A match may begin at the position, and reach beyond it.
    let end = (start + part.len()).min(whole.len());
    let end = (end..=whole.len()).find(|end| whole.is_char_boundary(*end)).unwrap_or(whole.len());
    let found = whole[..end].rfind(&**part).filter(|at| *at <= start);
    Ok(Value::Int(found.map_or(-1, |at| position(whole, at))))
}

fn join<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let (list, separator) = match arguments {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return mismatch(),
    };
    let mut joined = String::new();
    for (number, element) in list.iter().enumerate() {
        let Value::String(element) = element else { return mismatch() };
        budget.work(element.len() + separator.len() + 1)?;
        if number > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&element);
    }
    Ok(Value::string(joined))
}

fn lower_ascii<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole)] = arguments else { return mismatch() };
    text(whole.to_ascii_lowercase(), budget)
}

fn upper_ascii<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole)] = arguments else { return mismatch() };
    text(whole.to_ascii_uppercase(), budget)
}

fn trim<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole)] = arguments else { return mismatch() };
    text(whole.trim().to_owned(), budget)
}

/// A limit that is negative, or not given, is none.
fn limit(count: &i64) -> usize {
    usize::try_from(*count).unwrap_or(usize::MAX)
}

fn replace<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let (whole, old, new, count) = match arguments {
        [Value::String(whole), Value::String(old), Value::String(new)] => (whole, old, new, usize::MAX),
        [Value::String(whole), Value::String(old), Value::String(new), Value::Int(count)] => {
            (whole, old, new, limit(count))
        }
        _ => return mismatch(),
    };
    budget.work(whole.len())?;
    let places = whole.matches(&**old).take(count).count();
    // Known before it is made: the result may be much longer than what it is made of.
    budget.work(whole.len().saturating_add(places.saturating_mul(new.len())))?;
    Ok(Value::string(whole.replacen(&**old, new, count)))
}

fn split<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let (whole, separator, count) = match arguments {
        [Value::String(whole), Value::String(separator)] => (whole, separator, usize::MAX),
        [Value::String(whole), Value::String(separator), Value::Int(count)] => {
            (whole, separator, limit(count))
        }
        _ => return mismatch(),
    };
    // Each part is a value of its own, and may be one character.
    budget.work(whole.len().saturating_mul(64))?;
    if count == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let parts: Vec<String> = if separator.is_empty() {
        let mut characters = whole.chars();
        let mut parts: Vec<String> = characters.by_ref().take(count - 1).map(String::from).collect();
        if !characters.as_str().is_empty() {
            parts.push(characters.as_str().to_owned());
        }
        parts
    } else {
        whole.splitn(count, &**separator).map(str::to_owned).collect()
    };
    Ok(Value::list(parts.into_iter().map(Value::string).collect()))
}

fn substring<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let (whole, from, to) = match arguments {
        [Value::String(whole), Value::Int(from)] => (whole, *from, None),
        [Value::String(whole), Value::Int(from), Value::Int(to)] => (whole, *from, Some(*to)),
        _ => return mismatch(),
    };
    budget.work(whole.len())?;
    let start = offset(whole, from)?;
    let end = match to {
        Some(to) if to < from => {
            return Err(EvalError::failed(format!("invalid substring range. start: {from}, end: {to}")));
        }
        Some(to) => offset(whole, to)?,
        None => whole.len(),
    };
    text(whole[start..end].to_owned(), budget)
}

/// As a literal: safe to print.
fn quote<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(whole)] = arguments else { return mismatch() };
    let mut quoted = String::with_capacity(whole.len() + 2);
    quoted.push('"');
    for character in whole.chars() {
        match character {
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    text(quoted, budget)
}

/// A segment of a JSON pointer.
fn escape_key<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(key)] = arguments else { return mismatch() };
    text(key.replace('~', "~0").replace('/', "~1"), budget)
}
