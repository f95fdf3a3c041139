//! Lines: comments gone, continued ones joined, here-documents collected.

use crate::{Error, Result};

/// One instruction, as a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Where it begins, from 1.
    pub number: usize,
    pub text: String,
    pub heredocs: Vec<Heredoc>,
}

/// What stands between `<<NAME` and a line `NAME`.
#[derive(Debug, Clone, PartialEq)]
pub struct Heredoc {
    pub name: String,
    pub text: String,
    /// Whether variables are put into it: not where the name is quoted.
    pub expand: bool,
    /// Whether tabs at the beginnings of lines go: `<<-`.
    strip: bool,
}

/// More at one instruction are nobody's honest work.
const MOST_HEREDOCS: usize = 64;

/// The escape character, and the instructions.
pub fn logical(text: &str) -> Result<(char, Vec<Line>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut physical = text.lines().enumerate().map(|(index, line)| (index + 1, line)).peekable();
    let mut escape = '\\';
    // Directives are comments before anything else.
    while let Some((number, line)) = physical.peek() {
        let Some((name, value)) = line.trim_start().strip_prefix('#').and_then(|d| d.split_once('=')) else {
            break;
        };
        match (name.trim().to_ascii_lowercase().as_str(), value.trim()) {
            ("escape", "`") => escape = '`',
            ("escape", "\\") => escape = '\\',
            ("escape", other) => {
                return Err(Error::at(*number, format!("the escape character is \\ or `, not {other:?}")));
            }
            ("syntax" | "check", _) => {}
            _ => break,
        }
        physical.next();
    }
    let mut lines = Vec::new();
    while let Some((number, first)) = physical.next() {
        if is_comment(first) || first.trim().is_empty() {
            continue;
        }
        let mut text = String::new();
        let mut current = Some(first.trim_start());
        while let Some(line) = current {
            match continued(line, escape) {
                None => {
                    text.push_str(line);
                    break;
                }
                Some(part) => {
                    text.push_str(part);
                    // Comments and empty lines within an instruction are passed over.
                    current = physical.find(|(_, l)| !is_comment(l) && !l.trim().is_empty()).map(|(_, l)| l);
                }
            }
        }
        let text = text.trim().to_owned();
        let mut heredocs = Vec::new();
        if matches!(instruction(&text).0.as_str(), "RUN" | "COPY" | "ADD") {
            heredocs = begun(&text);
        }
        if heredocs.len() > MOST_HEREDOCS {
            return Err(Error::at(number, format!("more than {MOST_HEREDOCS} here-documents")));
        }
        for heredoc in &mut heredocs {
            loop {
                let Some((_, line)) = physical.next() else {
                    return Err(Error::at(number, format!("the here-document {} has no end", heredoc.name)));
                };
                let line = if heredoc.strip { line.trim_start_matches('\t') } else { line };
                if line == heredoc.name {
                    break;
                }
                heredoc.text.push_str(line);
                heredoc.text.push('\n');
            }
        }
        lines.push(Line { number, text, heredocs });
    }
    Ok((escape, lines))
}

/// Its name in capitals, and the rest.
pub fn instruction(text: &str) -> (String, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (name.to_ascii_uppercase(), rest.trim_start())
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without the escape character at its end.
fn continued(line: &str, escape: char) -> Option<&str> {
    let part = line.trim_end().strip_suffix(escape)?;
    // Two of them are one that is meant.
    let others = part.chars().rev().take_while(|c| *c == escape).count();
    others.is_multiple_of(2).then_some(part)
}

/// The here-documents that a line begins: `<<NAME`, `<<-NAME`, `<<"NAME"`, outside of quotes.
fn begun(text: &str) -> Vec<Heredoc> {
    let mut found = Vec::new();
    let mut quote = None;
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '<') if before != '<' && after.starts_with('<') && !after.starts_with("<<") => {
                if let Some((heredoc, left)) = name(&after[1..]) {
                    found.push(heredoc);
                    (before, rest) = (' ', left);
                    continue;
                }
            }
            _ => {}
        }
        (before, rest) = (c, after);
    }
    found
}

fn name(text: &str) -> Option<(Heredoc, &str)> {
    let (strip, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let quoted = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (name, rest) = match quoted {
        Some(quote) => text[1..].split_once(quote)?,
        None => {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(text.len());
            text.split_at(end)
        }
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    Some((Heredoc { name: name.to_owned(), text: String::new(), expand: quoted.is_none(), strip }, rest))
}
