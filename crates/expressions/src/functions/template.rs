//! The templates of `format`: their clauses, and what may be put where.

use crate::types::Type;

/// A part of a template.
pub(crate) enum Clause<'t> {
    Text(&'t str),
    Verb(Verb),
}

#[derive(Clone, Copy)]
pub(crate) struct Verb {
    pub name: char,
    pub precision: Option<usize>,
}

/// More digits than this are refused.
const MAX_PRECISION: usize = 100;

const STRING: &str = "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                      durations, and timestamps";

impl Verb {
    /// What the verb can be used on, if not on this type.
    pub(crate) fn refuses(self, of: &Type) -> Option<&'static str> {
        let integer = matches!(of, Type::Int | Type::Uint);
        let text = matches!(of, Type::String | Type::Bytes);
        let (fits, wanted) = match self.name {
            'd' => (integer, "decimal clause can only be used on integers"),
            'f' => (*of == Type::Double, "fixed-point clause can only be used on doubles"),
            'e' => (*of == Type::Double, "scientific clause can only be used on doubles"),
            'o' => (integer, "octal clause can only be used on integers"),
            'b' => (integer || *of == Type::Bool, "only integers and bools can be formatted as binary"),
            'x' | 'X' => {
                (integer || text, "only integers, byte buffers, and strings can be formatted as hex")
            }
            _ => (!matches!(of, Type::Optional(_) | Type::Opaque(_) | Type::Object(_)), STRING),
        };
        (!fits && !of.is_dyn()).then_some(wanted)
    }
}

/// What a type is called where a value of it does not fit.
pub(crate) fn called(of: &Type) -> String {
    match of {
        Type::List(_) => "list".to_owned(),
        Type::Map(_) => "map".to_owned(),
        Type::Optional(_) => "optional_type".to_owned(),
        Type::Type(_) => "type".to_owned(),
        Type::Null => "null_type".to_owned(),
        Type::Duration => "google.protobuf.Duration".to_owned(),
        Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
        of => of.to_string(),
    }
}

/// The parts of a template in order; nothing follows a wrong one.
pub(crate) fn clauses(template: &str) -> impl Iterator<Item = Result<Clause<'_>, String>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(after) = rest.strip_prefix('%') else {
            let (text, after) = rest.split_at(rest.find('%').unwrap_or(rest.len()));
            rest = after;
            return Some(Ok(Clause::Text(text)));
        };
        if after.starts_with('%') {
            let (percent, after) = after.split_at(1);
            rest = after;
            return Some(Ok(Clause::Text(percent)));
        }
        let read = verb(after);
        rest = read.as_ref().map_or("", |(_, after)| *after);
        Some(read.map(|(verb, _)| Clause::Verb(verb)))
    })
}

/// What comes behind a `%`, and the rest.
fn verb(text: &str) -> Result<(Verb, &str), String> {
    let wrong = |why: &str| Err(format!("could not parse formatting clause: {why}"));
    let (precision, text) = match text.strip_prefix('.') {
        None => (None, text),
        Some(after) => {
            let Some(end) = after.find(|c: char| !c.is_ascii_digit()) else {
                return wrong("error while parsing precision: could not find end of precision specifier");
            };
            let (digits, after) = after.split_at(end);
            match digits.parse::<usize>() {
                Ok(precision) if precision <= MAX_PRECISION => (Some(precision), after),
                Ok(_) => return wrong("error while parsing precision: it is too large"),
                Err(_) => {
                    return wrong(&format!(
                        "error while parsing precision: error while converting precision to integer: \
                         strconv.Atoi: parsing {digits:?}: invalid syntax"
                    ));
                }
            }
        }
    };
    let Some(name) = text.chars().next() else {
        return Err("unexpected end of string".to_owned());
    };
    if !matches!(name, 's' | 'd' | 'f' | 'e' | 'b' | 'x' | 'X' | 'o') {
        return wrong(&format!("unrecognized formatting clause \"{name}\""));
    }
    Ok((Verb { name, precision }, &text[name.len_utf8()..]))
}
