//! Names of properties in expressions: those that are no identifiers, or that CEL keeps for itself, are escaped as
//! the Kubernetes documentation of validation rules says: the property `namespace` as `__namespace__`.

use crate::reserved::is_keyword;

/// Sequences within names; `__` first, so that what escaping adds is not escaped again.
const SEQUENCES: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The name under which expressions know the property; None for one that they cannot name.
pub fn escaped(property: &str) -> Option<String> {
    if is_keyword(property) {
        return Some(format!("__{property}__"));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    let first = property.chars().next()?;
    if first.is_ascii_digit() || !property.chars().all(legal) {
        return None;
    }
    let mut escaped = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(next) = rest.chars().next() {
        match SEQUENCES.iter().find(|(sequence, _)| rest.starts_with(sequence)) {
            Some((sequence, replacement)) => {
                escaped.push_str(replacement);
                rest = &rest[sequence.len()..];
            }
            None => {
                escaped.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    Some(escaped)
}

/// The property that an escaped name stands for.
pub fn unescaped(name: &str) -> String {
    if let Some(inner) = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && is_keyword(inner)
    {
        return inner.to_owned();
    }
    let mut property = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        match SEQUENCES.iter().find(|(_, replacement)| rest.starts_with(replacement)) {
            Some((sequence, replacement)) => {
                property.push_str(sequence);
                rest = &rest[replacement.len()..];
            }
            None => {
                property.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_documented() {
        let check = |property: &str, expected: Option<&str>| {
            let name = escaped(property);
            assert_eq!(name.as_deref(), expected, "{property}");
            if let Some(name) = name {
                assert_eq!(unescaped(&name), property);
            }
        };
        check("namespace", Some("__namespace__"));
        check("x-prop", Some("x__dash__prop"));
        check("redact__d", Some("redact__underscores__d"));
        check("a.b/c", Some("a__dot__b__slash__c"));
        check("string", Some("string"));
        check("while", Some("__while__"));
        check("_a", Some("_a"));
        check("1a", None);
        check("a b", None);
        check("", None);
    }
}
