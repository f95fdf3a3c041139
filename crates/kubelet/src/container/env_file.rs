//! Environment variables from a file (`fileKeyRef`): a small, strict part of what shells read.
//!
//! `NAME='value'`, one after the other. A value is all between the single quotes, line ends included. Empty lines and
//! lines that begin with `#` are passed over.

/// The value of `key`; nothing when the file does not set it. An error when the file is not of this form up to there.
pub fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut rest = text;
    let mut line_number = 1;
    loop {
        let trimmed = rest.trim_start_matches([' ', '\t', '\r']);
        if trimmed.is_empty() {
            return Ok(None);
        }
        if trimmed.starts_with(['\n', '#']) {
            rest = trimmed.split_once('\n').map_or("", |(_, after)| after);
            line_number += 1;
            continue;
        }
        let bad = |what: &str| format!("line {line_number}: {what}");
        let (line, _) = trimmed.split_once('\n').unwrap_or((trimmed, ""));
        let (name, _) = line.split_once('=').ok_or_else(|| bad("there is no '='"))?;
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        if name.is_empty() || name.ends_with(' ') || !name.chars().all(plain) {
            return Err(bad(&format!("{name:?} is not the name of an environment variable")));
        }
        let after = trimmed.get(name.len() + 1..).unwrap_or_default();
        let quoted = after.strip_prefix('\'').ok_or_else(|| bad("the value is not in single quotes"))?;
        let (value, after) =
            quoted.split_once('\'').ok_or_else(|| bad("the value's closing quote is missing"))?;
        let (tail, next) = after.split_once('\n').unwrap_or((after, ""));
        let tail = tail.trim();
        if !(tail.is_empty() || tail.starts_with('#')) {
            return Err(bad("something follows the value's closing quote"));
        }
        if name == key {
            return Ok(Some(value.to_owned()));
        }
        line_number += 1 + value.matches('\n').count();
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check = |text: &str, key: &str, expected: Result<Option<&str>, ()>| {
            let got = value(text, key);
            assert_eq!(got.as_ref().map(Option::as_deref).map_err(|_| ()), expected, "{text:?}: {got:?}");
        };
        check("A='1'\nB='two words'\n", "B", Ok(Some("two words")));
        check("# c\n\n  A='1' # one\n", "A", Ok(Some("1")));
        check("A='x\ny'\nB='#'\n", "A", Ok(Some("x\ny")));
        check("A='x\ny'\nB='#$(A)'", "B", Ok(Some("#$(A)")));
        check("A='1'\n", "C", Ok(None));
        check("", "C", Ok(None));
        check("A=1\n", "A", Err(()));
        check("A='1\n", "A", Err(()));
        check("A='1'2\n", "A", Err(()));
        check("A ='1'\n", "A", Err(()));
        check("nonsense\n", "A", Err(()));
    }
}
