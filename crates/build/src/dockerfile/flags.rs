//! `--name=value` between an instruction's name and its arguments.

use crate::{Error, Result};

pub type Flags = Vec<(String, Option<String>)>;

/// The flags, and what comes after them.
pub fn split(text: &str, line: usize) -> Result<(Flags, &str)> {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while let Some(after) = rest.strip_prefix("--") {
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (flag, left) = after.split_at(end);
        rest = left.trim_start();
        if flag.is_empty() {
            break;
        }
        match flag.split_once('=') {
            Some((name, "")) => {
                return Err(Error::at(line, format!("--{name} needs a value")));
            }
            Some((name, value)) => flags.push((name.to_owned(), Some(value.to_owned()))),
            None => flags.push((flag.to_owned(), None)),
        }
    }
    Ok((flags, rest))
}
