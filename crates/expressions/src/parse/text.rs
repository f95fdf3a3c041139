//! String and bytes literals: `'..'`, `".."`, tripled quotes, raw (`r`) and bytes (`b`) prefixes, escapes.

#[derive(Debug, PartialEq)]
pub(crate) enum Quoted {
    String(String),
    Bytes(Vec<u8>),
}

/// Reads the literal that `source` begins with, and tells its length; None where it begins with something else.
pub(crate) fn quoted(source: &str) -> Result<Option<(Quoted, usize)>, &'static str> {
    let prefix = source.len() - source.trim_start_matches(['r', 'R', 'b', 'B']).len();
    let letters = source[..prefix].to_ascii_lowercase();
    if !matches!(letters.as_str(), "" | "r" | "b" | "rb" | "br") {
        return Ok(None);
    }
    let (raw, bytes) = (letters.contains('r'), letters.contains('b'));
    let body = &source[prefix..];
    let Some(quote) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| body.starts_with(quote)) else {
        return Ok(None);
    };
    let content = &body[quote.len()..];
    let mut reader = Reader { rest: content, bytes, text: Vec::new() };
    loop {
        if let Some(after) = reader.rest.strip_prefix(quote) {
            let length = source.len() - after.len();
            let literal = match bytes {
                true => Quoted::Bytes(reader.text),
                false => Quoted::String(String::from_utf8(reader.text).map_err(|_| "invalid escape")?),
            };
            return Ok(Some((literal, length)));
        }
        let Some(next) = reader.rest.chars().next() else { return Err("unterminated string literal") };
        if quote.len() == 1 && (next == '\n' || next == '\r') {
            return Err("unterminated string literal");
        }
        if next == '\\' && !raw { reader.escape()? } else { reader.plain(next) }
    }
}

struct Reader<'s> {
    rest: &'s str,
    bytes: bool,
    text: Vec<u8>,
}

impl Reader<'_> {
    fn plain(&mut self, next: char) {
        self.text.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
        self.rest = &self.rest[next.len_utf8()..];
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        const UNKNOWN: &str = "unable to unescape string";
        let mut characters = self.rest[1..].chars();
        let letter = characters.next().ok_or(UNKNOWN)?;
        self.rest = characters.as_str();
        let simple = match letter {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '?' | '"' | '\'' | '`' => letter as u8,
            'x' | 'X' => return self.code(2, 16),
            'u' if !self.bytes => return self.code(4, 16),
            'U' if !self.bytes => return self.code(8, 16),
            '0'..='3' => {
                let value = letter as u32 - '0' as u32;
                let digits = self.digits(2, 8).ok_or(UNKNOWN)?;
                return self.push_code(value * 64 + digits);
            }
            _ => return Err(UNKNOWN),
        };
        self.text.push(simple);
        Ok(())
    }

    fn code(&mut self, digits: usize, radix: u32) -> Result<(), &'static str> {
        let code = self.digits(digits, radix).ok_or("unable to unescape string")?;
        self.push_code(code)
    }

    fn digits(&mut self, count: usize, radix: u32) -> Option<u32> {
        let text = self.rest.get(..count)?;
        if !text.chars().all(|c| c.is_digit(radix)) {
            return None;
        }
        self.rest = &self.rest[count..];
        u32::from_str_radix(text, radix).ok()
    }

    /// In bytes literals the escapes name bytes, in strings code points.
    fn push_code(&mut self, code: u32) -> Result<(), &'static str> {
        if self.bytes {
            self.text.push(u8::try_from(code).map_err(|_| "invalid byte escape")?);
            return Ok(());
        }
        let character = char::from_u32(code).ok_or("invalid unicode code point")?;
        self.text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}
