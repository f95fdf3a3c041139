//! Durations: whole nanoseconds, written as Go writes them.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub i64);

const SECOND: i64 = 1_000_000_000;
/// Units, each with the nanoseconds it has; those of two letters first.
const UNITS: [(&str, i64); 10] = [
    ("ns", 1),
    ("us", 1000),
    ("µs", 1000),
    ("μs", 1000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("d", 24 * 3600 * SECOND),
    ("w", 7 * 24 * 3600 * SECOND),
];

impl Duration {
    /// `1h30m`, `-1.5s`, `0`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_units(text, &UNITS[..8])
    }

    /// The string format `duration` of schemas knows days and weeks too.
    pub fn parse_format(text: &str) -> Option<Self> {
        Self::parse_units(text, &UNITS)
    }

    fn parse_units(text: &str, units: &[(&str, i64)]) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, after) = rest.split_at(end);
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
                return None;
            }
            let (unit, nanoseconds) = units.iter().find(|(unit, _)| after.starts_with(unit))?;
            let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
            // Digits beyond the 18th are below a nanosecond, whatever the unit.
            let fraction = fraction.get(..18).unwrap_or(fraction);
            let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
            let scale = 10_i128.pow(fraction.len() as u32);
            total += whole * i128::from(*nanoseconds) + part * i128::from(*nanoseconds) / scale;
            rest = &after[unit.len()..];
        }
        i64::try_from(if negative { -total } else { total }).ok().map(Self)
    }
}

/// In seconds, as `string(duration)` gives it.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanoseconds = self.0.unsigned_abs();
        let (whole, fraction) = (nanoseconds / SECOND as u64, nanoseconds % SECOND as u64);
        if fraction == 0 {
            return write!(f, "{sign}{whole}s");
        }
        let digits = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}s", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let check = |text: &str, expected: Option<&str>| {
            let told = Duration::parse(text).map(|duration| duration.to_string());
            assert_eq!(told.as_deref(), expected, "{text}");
        };
        check("1h30m", Some("5400s"));
        check("-1.5s", Some("-1.5s"));
        check("100ms", Some("0.1s"));
        check("1µs", Some("0.000001s"));
        check("0", Some("0s"));
        check(".5s", Some("0.5s"));
        for wrong in ["", "1", "s", ".s", "1d", "1.2.3s", "99999999999h", "1 s", "--1s"] {
            check(wrong, None);
        }
        assert_eq!(Duration::parse_format("1d"), Duration::parse("24h"));
    }
}
