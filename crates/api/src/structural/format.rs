//! `format` of strings: those that upstream knows. Others hold for everything.

use std::net::{IpAddr, Ipv6Addr};

use crate::validation::names;

/// A format that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    BsonObjectId,
    Uri,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Cidr,
    Mac,
    Uuid,
    Uuid3,
    Uuid4,
    Uuid5,
    Isbn,
    Isbn10,
    Isbn13,
    CreditCard,
    Ssn,
    HexColor,
    RgbColor,
    Byte,
    Password,
    Date,
    Duration,
    DateTime,
    ShortName,
    LongName,
    Int32,
    Int64,
    Float,
}

const NAMES: [(&str, Format); 30] = [
    ("bsonobjectid", Format::BsonObjectId),
    ("uri", Format::Uri),
    ("email", Format::Email),
    ("hostname", Format::Hostname),
    ("ipv4", Format::Ipv4),
    ("ipv6", Format::Ipv6),
    ("cidr", Format::Cidr),
    ("mac", Format::Mac),
    ("uuid", Format::Uuid),
    ("uuid3", Format::Uuid3),
    ("uuid4", Format::Uuid4),
    ("uuid5", Format::Uuid5),
    ("isbn", Format::Isbn),
    ("isbn10", Format::Isbn10),
    ("isbn13", Format::Isbn13),
    ("creditcard", Format::CreditCard),
    ("ssn", Format::Ssn),
    ("hexcolor", Format::HexColor),
    ("rgbcolor", Format::RgbColor),
    ("byte", Format::Byte),
    ("password", Format::Password),
    ("date", Format::Date),
    ("duration", Format::Duration),
    ("date-time", Format::DateTime),
    ("datetime", Format::DateTime),
    ("k8s-short-name", Format::ShortName),
    ("k8s-long-name", Format::LongName),
    ("int32", Format::Int32),
    ("int64", Format::Int64),
    ("float", Format::Float),
];

impl Format {
    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    /// Whether this is a format of texts at all.
    pub const fn is_of_texts(self) -> bool {
        !matches!(self, Self::Int32 | Self::Int64 | Self::Float)
    }

    pub fn as_str(self) -> &'static str {
        NAMES.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    pub fn holds(self, text: &str) -> bool {
        match self {
            Self::BsonObjectId => text.len() == 24 && is_hex(text),
            Self::Uri => is_uri(text),
            Self::Email => is_email(text),
            Self::Hostname => is_hostname(text),
            Self::Ipv4 => ipv4(text),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Cidr => is_cidr(text),
            Self::Mac => is_mac(text),
            Self::Uuid => is_uuid(text, None),
            Self::Uuid3 => is_uuid(text, Some('3')),
            Self::Uuid4 => is_uuid(text, Some('4')),
            Self::Uuid5 => is_uuid(text, Some('5')),
            Self::Isbn => is_isbn10(text) || is_isbn13(text),
            Self::Isbn10 => is_isbn10(text),
            Self::Isbn13 => is_isbn13(text),
            Self::CreditCard => is_credit_card(text),
            Self::Ssn => is_ssn(text),
            Self::HexColor => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && is_hex(digits)
            }
            Self::RgbColor => is_rgb(text),
            Self::Byte => is_base64(text),
            Self::Password => true,
            Self::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Self::Duration => is_duration(text),
            Self::DateTime => is_date_time(text),
            Self::ShortName => names::dns1123_label(text).is_none(),
            // These are about numbers.
            Self::Int32 | Self::Int64 | Self::Float => true,
            Self::LongName => names::dns1123_subdomain(text).is_none(),
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Absolute, as Go's `url.ParseRequestURI` reads it.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    scheme_ok && !rest.is_empty()
}

/// An address as in a letter's head: with a name before it in angle brackets, or a comment behind it.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    if let Some(inner) = text.strip_suffix('>') {
        let Some((name, address)) = inner.rsplit_once('<') else { return false };
        return !name.contains(['<', '>', '@', ',']) && is_address(address);
    }
    match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
        Some((address, _)) => is_address(address),
        None => is_address(text),
    }
}

fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let plain = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let quoted = local.len() > 2
        && local
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .is_some_and(|inner| !inner.contains('"'));
    let dotted =
        !local.is_empty() && !local.starts_with('.') && !local.ends_with('.') && local.chars().all(plain);
    let literal = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = || {
        domain
            .split('.')
            .all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-'))
    };
    (quoted || dotted) && literal.map_or_else(named, |address| address.parse::<IpAddr>().is_ok())
}

/// One label with a dash behind its first character at most, or several of which the last is letters: upstream's
/// expression.
fn is_hostname(text: &str) -> bool {
    let sign = |c: char| c.is_alphanumeric() || "$+<=>^`|~".contains(c);
    if text.chars().count() > 255 {
        return false;
    }
    let Some((labels, last)) = text.rsplit_once('.') else {
        let mut rest = text.chars();
        let first = rest.next().is_some_and(sign);
        let rest = rest.as_str();
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        return first && rest.chars().count() <= 62 && rest.chars().all(sign);
    };
    let label = |label: &str| {
        label.chars().count() <= 63
            && label.starts_with(sign)
            && label.ends_with(sign)
            && label.chars().all(|c| sign(c) || c == '-')
    };
    let letters = last.chars().count();
    labels.split('.').all(label) && (2..=63).contains(&letters) && last.chars().all(char::is_alphabetic)
}

/// Leading zeros are decimal, as they were to upstream when custom resources began.
fn ipv4(text: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty()
            && part.len() <= 16
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u64>().is_ok_and(|number| number <= 255)
    };
    text.split('.').count() == 4 && text.split('.').all(number)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let bits = match address.parse::<IpAddr>() {
        _ if ipv4(address) => 32,
        Ok(IpAddr::V6(_)) => 128,
        _ => return false,
    };
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    plain && length.parse::<u8>().is_ok_and(|length| length <= bits)
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, each: usize, counts: &[usize]| {
        let groups: Vec<&str> = text.split(separator).collect();
        counts.contains(&groups.len()) && groups.iter().all(|group| group.len() == each && is_hex(group))
    };
    groups(':', 2, &[6, 8, 20])
        || groups('-', 2, &[6, 8, 20])
        || groups('.', 4, &[3, 4, 10])
        || groups('.', 12, &[1])
}

/// With dashes or without, as upstream's expressions have it.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut digits = String::with_capacity(32);
    let mut groups = text.split('-');
    let lengths = [8, 4, 4, 4, 12];
    let dashed = text.contains('-');
    if dashed {
        for length in lengths {
            match groups.next() {
                Some(group) if group.len() == length => digits.push_str(group),
                _ => return false,
            }
        }
        if groups.next().is_some() {
            return false;
        }
    } else {
        digits.push_str(text);
    }
    let variant = || matches!(digits.chars().nth(16), Some('8' | '9' | 'a' | 'b' | 'A' | 'B'));
    digits.len() == 32
        && is_hex(&digits)
        && version
            .is_none_or(|version| digits.chars().nth(12) == Some(version) && (version == '3' || variant()))
}

fn bare(text: &str) -> Vec<u8> {
    text.bytes().filter(|byte| !matches!(byte, b'-' | b' ')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = bare(text);
    let value = |(index, byte): (usize, &u8)| match byte {
        b'0'..=b'9' => Some(u32::from(byte - b'0')),
        b'X' | b'x' if index == 9 => Some(10),
        _ => None,
    };
    let values: Option<Vec<u32>> = digits.iter().enumerate().map(value).collect();
    values.is_some_and(|values| {
        values.len() == 10
            && values.iter().zip(1..).map(|(value, weight): (&u32, u32)| value * weight).sum::<u32>() % 11
                == 0
    })
}

fn is_isbn13(text: &str) -> bool {
    let digits = bare(text);
    let sum: u32 = digits
        .iter()
        .zip([1u32, 3].into_iter().cycle())
        .map(|(byte, w)| u32::from(byte.wrapping_sub(b'0')) * w)
        .sum();
    digits.len() == 13 && digits.iter().all(u8::is_ascii_digit) && sum.is_multiple_of(10)
}

/// Thirteen to sixteen digits with a good Luhn sum.
fn is_credit_card(text: &str) -> bool {
    let digits = bare(text);
    if !(13..=16).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, byte)| {
            let digit = u32::from(byte - b'0');
            match index % 2 {
                0 => digit,
                _ if digit > 4 => digit * 2 - 9,
                _ => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    let groups: Vec<&str> = text.split([' ', '-']).collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [3, 2, 4] && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_rgb(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("rgb(").and_then(|text| text.strip_suffix(')')) else { return false };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

/// RFC 3339, with the leniency of upstream's pattern: fractions, `z` and `t` in either case.
fn is_date_time(text: &str) -> bool {
    text.len() >= 20
        && text.as_bytes().get(10).is_some_and(|byte| matches!(byte, b'T' | b't'))
        // Neither leap seconds nor offsets without a colon.
        && text.get(17..19) != Some("60")
        && (text.ends_with(['Z', 'z']) || text.as_bytes().get(text.len() - 3) == Some(&b':'))
        && text.to_ascii_uppercase().parse::<jiff::Timestamp>().is_ok()
}

/// A Go duration (`1h30m`), or a number with a unit in words (`3 days`).
fn is_duration(text: &str) -> bool {
    go_duration(text) || words_duration(text)
}

fn go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        if !digits.bytes().any(|byte| byte.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return false;
        }
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let unit_length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        if !units.contains(&unit) {
            return false;
        }
        rest = after;
    }
    true
}

/// A number with a unit behind it, anywhere.
fn words_duration(text: &str) -> bool {
    const UNITS: [&str; 12] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h", "hr", "d", "w", "wk"];
    const WORDS: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    let known = |after: &str| {
        let after = after.trim_start();
        let unit = after.find(|c: char| !c.is_alphabetic()).map_or(after, |end| &after[..end]).to_lowercase();
        UNITS.contains(&unit.as_str()) || WORDS.iter().any(|word| unit.starts_with(word))
    };
    text.char_indices().any(|(at, digit)| {
        let after = &text[at + digit.len_utf8()..];
        digit.is_ascii_digit() && !after.starts_with(|c: char| c.is_ascii_digit()) && known(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        #[track_caller]
        fn check(name: &str, good: &[&str], bad: &[&str]) {
            let format = Format::parse(name).unwrap();
            for text in good {
                assert!(format.holds(text), "{name} {text}");
            }
            for text in bad {
                assert!(!format.holds(text), "{name} {text}");
            }
        }
        check("ipv4", &["10.0.0.1", "010.0.0.01"], &["10.0.0", "::1", "256.0.0.1", "1.2.3.4 "]);
        check("ipv6", &["::1", "fd00::7"], &["10.0.0.1"]);
        check("cidr", &["10.0.0.0/8", "fd00::/64", "10.00.0.0/08"], &["10.0.0.0", "10.0.0.0/33"]);
        check("date", &["2020-02-29"], &["2021-02-29", "2020-2-1", ""]);
        check(
            "date-time",
            &["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.5+01:00", "2020-01-01t00:00:00z"],
            &["2020-01-01", "2020-01-01 00:00:00Z", "2016-12-31T23:59:60Z", "2020-01-01T00:00:00+0100"],
        );
        check(
            "duration",
            &["1h30m", "1.5s", "0", "3 days", "10ms", "1d2h", "PT1H", "1.5 hours", "1 µs"],
            &["", "1x", "h", "-", "1y", "P1Y", "1 months"],
        );
        check(
            "uuid",
            &["123e4567-e89b-42d3-a456-426614174000"],
            &["123e4567", "123e4567-e89b-42d3-a456-42661417400g"],
        );
        check("uuid4", &["123e4567-e89b-42d3-a456-426614174000"], &["123e4567-e89b-12d3-a456-426614174000"]);
        check(
            "email",
            &["a.b@example.com", "A <a@b.c>", "<a@b>", "\"a b\"@c.d", "a@[1.2.3.4]", "a@b (x)"],
            &["a", "@x", "a@", "a@b, c@d", "<a@b", "a@b@c"],
        );
        check("uri", &["https://x/y", "/x", "urn:a"], &["x", "", "a b"]);
        check(
            "hostname",
            &["a", "a-b", "x-", "a-b.co", "1.com", "é"],
            &["-a", "a..b", "a.b", "x.", "a--b", "ab-", "1.2.3.4", "a.c-d"],
        );
        check("mac", &["00:00:5e:00:53:01", "0000.5e00.5301", "00005e005301"], &["00:00:5e"]);
        check("byte", &["YQ=="], &["?", "YQ"]);
        check("creditcard", &["4111 1111 1111 1111"], &["4111111111111112", "1"]);
        check("isbn", &["978-3-16-148410-0", "0-306-40615-2"], &["978-3-16-148410-1"]);
        check("hexcolor", &["#fff", "ffffff"], &["#ff"]);
        check("rgbcolor", &["rgb(1, 2,255)"], &["rgb(1,2)", "rgb(1,2,256)"]);
        check("k8s-short-name", &["a-b"], &["a.b"]);
        assert_eq!(Format::parse("foo"), None);
    }
}
