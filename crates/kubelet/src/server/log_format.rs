//! The CRI log format: `<RFC 3339 time> <stdout|stderr> <tags> <content>`, one line each.

/// One line of a log file. Content that the runtime had to cut is marked `partial`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    pub time: &'a str,
    pub stderr: bool,
    pub partial: bool,
    pub content: &'a [u8],
}

/// Reads a line (with or without its newline); nothing for what is not one.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let tags = parts.next()?;
    let partial = match tags.split(|byte| *byte == b':').next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    let content = parts.next().unwrap_or_default();
    Some(Entry { time, stderr, partial, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |line: &str, expected: Option<(bool, bool, &str)>| {
            let got = parse(line.as_bytes());
            let got =
                got.map(|entry| (entry.stderr, entry.partial, std::str::from_utf8(entry.content).unwrap()));
            assert_eq!(got, expected, "{line}");
        };
        check("2026-01-01T00:00:00.1Z stdout F hello world\n", Some((false, false, "hello world")));
        check("2026-01-01T00:00:00.1Z stderr P:x part", Some((true, true, "part")));
        check("2026-01-01T00:00:00.1Z stdout F \n", Some((false, false, "")));
        check("2026-01-01T00:00:00.1Z stdout F", Some((false, false, "")));
        check("2026-01-01T00:00:00.1Z stdin F x", None);
        check("rubbish", None);
    }
}
