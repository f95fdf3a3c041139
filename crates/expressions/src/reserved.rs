//! Words that CEL keeps for itself.

/// Not to be used as names.
const NAMES: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
/// Part of the language already.
const IN_USE: [&str; 4] = ["true", "false", "null", "in"];

pub fn is_reserved(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether a property of that name has to be called otherwise.
pub fn is_keyword(name: &str) -> bool {
    is_reserved(name) || IN_USE.contains(&name)
}
