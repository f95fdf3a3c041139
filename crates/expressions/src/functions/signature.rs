//! The notation in which overloads are declared: `list<T> . indexOf(T) -> int`, `sets.contains(list<T>, list<T>) -> bool`.

use crate::authorizer::{AUTHORIZER, DECISION, GROUP_CHECK, PATH_CHECK, RESOURCE_CHECK};
use crate::types::Type;
use crate::value::types::{CIDR, FORMAT, IP, QUANTITY, SEMVER, URL};

pub(super) struct Signature {
    pub name: &'static str,
    pub member: bool,
    pub parameters: Vec<Type>,
    pub result: Type,
}

/// Reads a declaration of this crate's; a wrong one would be a mistake in it, which the tests find.
pub(super) fn read(text: &'static str) -> Signature {
    let (call, result) = text.rsplit_once(" -> ").unwrap_or((text, "dyn"));
    let (receiver, call) = match call.split_once(" . ") {
        Some((receiver, call)) => (Some(receiver), call),
        None => (None, call),
    };
    let (name, arguments) = call.split_once('(').unwrap_or((call, ")"));
    let arguments = arguments.strip_suffix(')').unwrap_or(arguments);
    let listed = split(arguments).into_iter();
    let parameters = receiver.into_iter().chain(listed).map(of).collect();
    Signature { name, member: receiver.is_some(), parameters, result: of(result) }
}

/// At commas that are not within `<..>`.
fn split(list: &'static str) -> Vec<&'static str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = list[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

fn of(text: &'static str) -> Type {
    if let Some((generic, rest)) = text.split_once('<') {
        let arguments = split(rest.strip_suffix('>').unwrap_or(rest));
        let mut arguments = arguments.into_iter().map(of);
        let mut next = || arguments.next().unwrap_or(Type::Dyn);
        return match generic {
            "list" => Type::list(next()),
            "map" => {
                let key = next();
                Type::map(key, next())
            }
            "optional" => Type::optional(next()),
            _ => Type::Type(next().into()),
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "URL" => Type::Opaque(URL),
        "IP" => Type::Opaque(IP),
        "CIDR" => Type::Opaque(CIDR),
        "Quantity" => Type::Opaque(QUANTITY),
        "Semver" => Type::Opaque(SEMVER),
        "Format" => Type::Opaque(FORMAT),
        "Authorizer" => Type::Opaque(AUTHORIZER),
        "PathCheck" => Type::Opaque(PATH_CHECK),
        "GroupCheck" => Type::Opaque(GROUP_CHECK),
        "ResourceCheck" => Type::Opaque(RESOURCE_CHECK),
        "Decision" => Type::Opaque(DECISION),
        parameter => Type::Parameter(parameter.chars().next().unwrap_or('T')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_is_one() {
        for (signatures, _) in super::super::LIBRARIES.into_iter().flatten() {
            for text in *signatures {
                let signature = read(text);
                let parameters: Vec<String> = signature.parameters.iter().map(Type::to_string).collect();
                assert!(text.contains(" -> ") && text.contains('('), "{text}");
                for told in parameters.iter().chain([&signature.result.to_string()]) {
                    assert!(told.len() != 1 || matches!(told.as_str(), "T" | "K" | "V"), "{text}: {told}");
                }
            }
        }
    }
}
