//! Variables and quotes, as a shell has them and Dockerfiles borrow them.

use std::iter::Peekable;
use std::str::Chars;

/// What a text may become by its variables: two that hold each other twice double with every line.
const LONGEST: usize = 1 << 20;
const DEEPEST: usize = 32;
/// Patterns are tried at every place of a value: what that takes grows with its cube.
const LONGEST_MATCHED: usize = 512;

/// The value of a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One word, with variables put in and quotes taken off.
pub fn expand(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    let mut lexer = Lexer { left: text.chars().peekable(), escape, lookup, depth: 0 };
    let mut out = String::new();
    lexer.until(None, false, &mut out)?;
    Ok(out)
}

/// Variables only; quotes stay: for here-documents.
pub fn expand_document(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    let mut lexer = Lexer { left: text.chars().peekable(), escape, lookup, depth: 0 };
    let mut out = String::new();
    lexer.until(None, true, &mut out)?;
    Ok(out)
}

/// Words between spaces that are not quoted; quotes stay on.
pub fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ => {}
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

struct Lexer<'a> {
    left: Peekable<Chars<'a>>,
    escape: char,
    lookup: Lookup<'a>,
    depth: usize,
}

impl Lexer<'_> {
    /// To the end of the text, or to the brace that ends a variable.
    fn until(&mut self, stop: Option<char>, raw: bool, out: &mut String) -> Result<(), String> {
        while let Some(c) = self.left.next() {
            if out.len() > LONGEST {
                return Err(format!("a value becomes longer than {LONGEST} bytes"));
            }
            match c {
                c if Some(c) == stop => return Ok(()),
                '\'' if !raw => self.single(out)?,
                '"' if !raw => self.double(out)?,
                '$' => self.variable(out)?,
                c if c == self.escape => match self.left.next() {
                    Some(next) if raw && next != '$' && next != self.escape => out.extend([c, next]),
                    Some(next) => out.push(next),
                    None => out.push(c),
                },
                c => out.push(c),
            }
        }
        match stop {
            Some(stop) => Err(format!("a variable does not end: {stop:?} is missing")),
            None => Ok(()),
        }
    }

    fn single(&mut self, out: &mut String) -> Result<(), String> {
        for c in self.left.by_ref() {
            if c == '\'' {
                return Ok(());
            }
            out.push(c);
        }
        Err("a quote ' has no end".to_owned())
    }

    fn double(&mut self, out: &mut String) -> Result<(), String> {
        while let Some(c) = self.left.next() {
            match c {
                '"' => return Ok(()),
                '$' => self.variable(out)?,
                c if c == self.escape => match self.left.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => out.push(next),
                    Some(next) => out.extend([c, next]),
                    None => out.push(c),
                },
                c => out.push(c),
            }
            if out.len() > LONGEST {
                return Err(format!("a value becomes longer than {LONGEST} bytes"));
            }
        }
        Err("a quote \" has no end".to_owned())
    }

    /// After the dollar sign.
    fn variable(&mut self, out: &mut String) -> Result<(), String> {
        if self.left.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                out.push('$');
            } else {
                out.push_str(&(self.lookup)(&name).unwrap_or_default());
            }
            return self.bounded(out);
        }
        let name = self.name();
        if name.is_empty() {
            return Err("${ needs a variable's name".to_owned());
        }
        let value = (self.lookup)(&name);
        let Some(operator) = self.left.next() else {
            return Err(format!("${{{name} does not end: '}}' is missing"));
        };
        match operator {
            '}' => out.push_str(&value.unwrap_or_default()),
            ':' | '-' | '+' | '?' => {
                let unless_empty = operator == ':';
                let operator = if unless_empty { self.left.next() } else { Some(operator) };
                let word = self.word('}')?;
                let value = value.filter(|v| !unless_empty || !v.is_empty());
                match (operator, value) {
                    (Some('-'), value) => out.push_str(&value.unwrap_or(word)),
                    (Some('+'), value) => out.push_str(if value.is_some() { &word } else { "" }),
                    (Some('?'), Some(value)) => out.push_str(&value),
                    (Some('?'), None) if word.is_empty() => return Err(format!("{name} is not set")),
                    (Some('?'), None) => return Err(format!("{name}: {word}")),
                    (other, _) => return Err(format!("${{{name}:{} is not known", other.unwrap_or(' '))),
                }
            }
            '#' | '%' => {
                let longest = self.left.next_if_eq(&operator).is_some();
                let pattern = self.word('}')?;
                let value = matchable(value, &pattern)?;
                out.push_str(&trimmed(&value, &pattern, operator == '#', longest));
            }
            '/' => {
                let all = self.left.next_if_eq(&'/').is_some();
                let (pattern, more) = self.pattern()?;
                let with = if more { self.word('}')? } else { String::new() };
                let value = matchable(value, &pattern)?;
                out.push_str(&replaced(&value, &pattern, &with, all));
            }
            other => return Err(format!("${{{name}{other} is not known")),
        }
        self.bounded(out)
    }

    fn bounded(&self, out: &str) -> Result<(), String> {
        if out.len() > LONGEST { Err(format!("a value becomes longer than {LONGEST} bytes")) } else { Ok(()) }
    }

    fn word(&mut self, stop: char) -> Result<String, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("variables within variables, more than {DEEPEST} deep"));
        }
        let mut word = String::new();
        self.until(Some(stop), false, &mut word)?;
        self.depth -= 1;
        Ok(word)
    }

    /// To the slash that a replacement follows, or to the brace; whether it was a slash.
    fn pattern(&mut self) -> Result<(String, bool), String> {
        let mut pattern = String::new();
        while let Some(c) = self.left.next() {
            match c {
                '/' => return Ok((pattern, true)),
                '}' => return Ok((pattern, false)),
                '$' => self.variable(&mut pattern)?,
                c if c == self.escape => pattern.extend(self.left.next()),
                c => pattern.push(c),
            }
        }
        Err("a variable does not end: '}' is missing".to_owned())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.left.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }
}

fn matchable(value: Option<String>, pattern: &str) -> Result<String, String> {
    let value = value.unwrap_or_default();
    if value.len().max(pattern.len()) > LONGEST_MATCHED {
        return Err(format!("a pattern, or what it is matched with, is longer than {LONGEST_MATCHED} bytes"));
    }
    Ok(value)
}

/// The value without what matches at its beginning or end.
fn trimmed(value: &str, pattern: &str, front: bool, longest: bool) -> String {
    let mut cuts: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    // The shortest match first: from the front with small cuts, from the back with large ones.
    if front == longest {
        cuts.reverse();
    }
    for cut in cuts {
        let (head, tail) = value.split_at(cut);
        let (matched, rest) = if front { (head, tail) } else { (tail, head) };
        if matches(pattern, matched) {
            return rest.to_owned();
        }
    }
    value.to_owned()
}

/// The value with the longest match of the pattern replaced: the first one, or all.
fn replaced(value: &str, pattern: &str, with: &str, all: bool) -> String {
    let mut out = String::new();
    let mut rest = value;
    while !rest.is_empty() && out.len() <= LONGEST {
        let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
        let found = ends.into_iter().find(|end| matches(pattern, &rest[..*end]));
        match found {
            Some(end) => {
                out.push_str(with);
                rest = &rest[end..];
                if !all {
                    break;
                }
            }
            None => {
                let next = rest.chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..next]);
                rest = &rest[next..];
            }
        }
    }
    out + rest
}

/// `*` is anything, `?` one character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "a" => Some("one".into()),
            "path" => Some("a/b/c.tar.gz".into()),
            "empty" => Some(String::new()),
            "big" => Some("x".repeat(600_000)),
            _ => None,
        }
    }

    #[test]
    fn expansion() {
        for (text, expected) in [
            ("plain", Ok("plain")),
            ("$a-${a}-$none-", Ok("one-one--")),
            (r"\$a '$a' x", Ok("$a $a x")),
            (r#""a $a \" \$ \n""#, Ok(r#"a one " $ \n"#)),
            ("${none:-x$a}${empty:-y}${empty-z}", Ok("xoney")),
            ("${a:+b}${empty:+b}${none+b}${empty+c}", Ok("bc")),
            ("${none:?must be}", Err("none: must be")),
            ("${a:?x}", Ok("one")),
            ("${path#*/} ${path##*/} ${path%.*} ${path%%.*}", Ok("b/c.tar.gz c.tar.gz a/b/c.tar a/b/c")),
            ("${path/\\//-} ${path//\\//-}", Ok("a-b/c.tar.gz a-b-c.tar.gz")),
            ("$", Ok("$")),
            ("100% $ x", Ok("100% $ x")),
            ("${a", Err("missing")),
            ("${}", Err("name")),
            ("${a!}", Err("not known")),
            ("'x", Err("no end")),
            ("\"x", Err("no end")),
            ("$big$big", Err("longer")),
        ] {
            match (expand(text, '\\', &lookup), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
            }
        }
        assert!(expand(&"${a:-".repeat(100), '\\', &lookup).is_err());
        assert_eq!(expand_document("\"$a\" '\\$a' \\n", '\\', &lookup).unwrap(), "\"one\" '$a' \\n");
        assert_eq!(expand("C:\\x`$a", '`', &lookup).unwrap(), "C:\\x$a");
    }

    #[test]
    fn splitting() {
        assert_eq!(split(r#"a=1 b="2 3" c=4\ 5 'x "y' "#, '\\'), ["a=1", "b=\"2 3\"", "c=4\\ 5", "'x \"y'"]);
        assert!(split("  ", '\\').is_empty());
    }
}
