//! Reading a path.

use serde_json::Value;

use super::{Filter, JsonPath, JsonPathError, Operand, Operator, Step};

/// Paths within filters and unions within paths: as deep as this.
const MAX_DEPTH: usize = 8;

pub(super) fn parse(text: &str) -> Result<JsonPath, JsonPathError> {
    let text = text.trim();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    path(inner.strip_prefix('$').unwrap_or(inner), 0)
}

fn error(problem: impl Into<String>) -> JsonPathError {
    JsonPathError(problem.into())
}

fn path(text: &str, depth: usize) -> Result<JsonPath, JsonPathError> {
    if depth > MAX_DEPTH {
        return Err(error("nested too deeply"));
    }
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Recursive);
            rest = if after.starts_with('[') { after } else { field(after, &mut steps)? };
        } else if let Some(after) = rest.strip_prefix('.') {
            // `.` alone is the value itself; `.[0]` is `[0]`.
            rest = if after.is_empty() || after.starts_with('[') { after } else { field(after, &mut steps)? };
        } else if rest.starts_with('[') {
            let (inner, after) = brackets(rest)?;
            steps.push(bracketed(inner.trim(), depth)?);
            rest = after;
        } else {
            return Err(error(format!("unrecognized identifier {rest}")));
        }
    }
    Ok(JsonPath(steps))
}

/// A name up to the next `.` or `[`. A backslash makes any character part of the name.
fn field<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, JsonPathError> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, character)) = chars.next() {
        match character {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' => {
                end = at;
                break;
            }
            ' ' | '{' | '}' | '(' | ')' | ']' | '?' | '@' | ',' | '"' | '\'' | '|' => {
                return Err(error(format!("unexpected character {character:?} in {text:?}")));
            }
            other => name.push(other),
        }
    }
    match name.as_str() {
        "" => return Err(error(format!("expected a name before {text:?}"))),
        "*" => steps.push(Step::Wildcard),
        _ => steps.push(Step::Field(name)),
    }
    Ok(text.get(end..).unwrap_or_default())
}

/// The characters that are neither quoted nor escaped, with where they are.
fn bare(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    let mut escaped = false;
    text.char_indices().filter(move |(_, character)| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match (*character, quote) {
            ('\\', _) => escaped = true,
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(*character),
            (_, None) => return true,
            (_, Some(_)) => {}
        }
        false
    })
}

/// What is between a bracket and the one that closes it, and what follows.
fn brackets(text: &str) -> Result<(&str, &str), JsonPathError> {
    let mut depth = 0usize;
    for (at, character) in bare(text) {
        match character {
            '[' => depth += 1,
            ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    let inner = text.get(1..at).unwrap_or_default();
                    return Ok((inner, text.get(at + 1..).unwrap_or_default()));
                }
            }
            _ => {}
        }
    }
    Err(error("unterminated array"))
}

fn bracketed(inner: &str, depth: usize) -> Result<Step, JsonPathError> {
    if inner == "*" {
        return Ok(Step::Wildcard);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|inner| inner.strip_suffix(')')) {
        return self::filter(filter, depth).map(Step::Filter);
    }
    let parts = split(inner);
    if parts.len() > 1 {
        let paths =
            parts.iter().map(|part| bracketed(part.trim(), depth + 1).map(|step| JsonPath(vec![step])));
        return paths.collect::<Result<_, _>>().map(Step::Union);
    }
    if let Some(name) = quoted(inner) {
        return Ok(Step::Field(name));
    }
    let number = |text: &str| -> Result<Option<i64>, JsonPathError> {
        match text.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| error(format!("invalid array index {inner}"))),
        }
    };
    let numbers: Vec<&str> = inner.split(':').collect();
    match numbers.as_slice() {
        [index] => number(index)?.map(Step::Index).ok_or_else(|| error("expected an array index")),
        [start, end] => Ok(Step::Slice { start: number(start)?, end: number(end)?, step: 1 }),
        [start, end, step] => {
            let step = number(step)?.unwrap_or(1);
            let step = usize::try_from(step).map_err(|_| error("step must be >= 0"))?;
            Ok(Step::Slice { start: number(start)?, end: number(end)?, step })
        }
        _ => Err(error(format!("invalid array index {inner}"))),
    }
}

/// At commas outside quotes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, _) in bare(text).filter(|(_, character)| *character == ',') {
        parts.push(text.get(begin..at).unwrap_or_default());
        begin = at + 1;
    }
    parts.push(text.get(begin..).unwrap_or_default());
    parts
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut name = String::new();
    let mut chars = inner.chars();
    while let Some(character) = chars.next() {
        name.extend(if character == '\\' { chars.next() } else { Some(character) });
    }
    Some(name)
}

fn filter(text: &str, depth: usize) -> Result<Filter, JsonPathError> {
    const OPERATORS: [(&str, Operator); 6] = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    for (at, _) in bare(text) {
        let here = text.get(at..).unwrap_or_default();
        let Some((sign, operator)) = OPERATORS.iter().find(|(sign, _)| here.starts_with(sign)) else {
            continue;
        };
        let left = operand(text.get(..at).unwrap_or_default(), depth)?;
        let right = operand(here.get(sign.len()..).unwrap_or_default(), depth)?;
        return Ok(Filter { left, comparison: Some((*operator, right)) });
    }
    Ok(Filter { left: operand(text, depth)?, comparison: None })
}

fn operand(text: &str, depth: usize) -> Result<Operand, JsonPathError> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('@') {
        return path(rest, depth + 1).map(Operand::Path);
    }
    if text.starts_with('.') {
        return path(text, depth + 1).map(Operand::Path);
    }
    if let Some(text) = quoted(text) {
        return Ok(Operand::Literal(text.into()));
    }
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => Ok(Operand::Literal(value)),
        _ => Err(error(format!("unrecognized identifier {text}"))),
    }
}
