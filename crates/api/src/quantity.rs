//! Resource quantities (`100m`, `1.5Gi`, `2e3`): exact parsing, comparison, arithmetic and the canonical format.
//!
//! A quantity is a whole number of nano-units in an `i128`, so that sums of any realistic length are exact. As upstream,
//! more than nine decimals are rounded away from zero and magnitudes are capped at 2^63-1 units.

use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
/// The largest magnitude, in nano-units.
const MAX: i128 = i64::MAX as i128 * NANO;

/// The family of suffixes that a quantity was written with, and is printed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `n u m k M G T P E`
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`
    BinarySi,
    /// `e3`
    DecimalExponent,
}

/// An exact amount of a resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// Powers of the suffixes: (text, exponent of ten or of two, format).
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// Whole units.
    pub const fn units(n: i64) -> Self {
        Self { nanos: n as i128 * NANO, format: Format::DecimalSi }
    }
    /// Thousandths, such as millicores.
    pub const fn millis(n: i64) -> Self {
        Self { nanos: n as i128 * (NANO / 1000), format: Format::DecimalSi }
    }
    /// Bytes, printed with binary suffixes.
    pub const fn bytes(n: i64) -> Self {
        Self { nanos: n as i128 * NANO, format: Format::BinarySi }
    }

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        text.parse()
    }

    /// Reads a quantity from an object: a string, or a number (YAML users write `cpu: 1`).
    pub fn from_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(s) => s.parse(),
            Value::Number(n) => n.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }

    pub const fn format(&self) -> Format {
        self.format
    }
    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }
    pub const fn is_negative(&self) -> bool {
        self.nanos < 0
    }
    /// -1, 0 or 1.
    pub const fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// Whole units, rounded away from zero (a fraction of a byte takes a byte).
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }
    /// Thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANO / 1000)
    }
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }
    /// Whether this is a whole number of units.
    pub const fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// Whether this is a whole number of `unit`s; nothing is one of no unit.
    pub const fn is_multiple_of(&self, unit: Self) -> bool {
        match self.nanos.checked_rem(unit.nanos) {
            Some(rest) => rest == 0,
            None => self.nanos == 0,
        }
    }

    fn scaled(&self, unit: i128) -> i64 {
        let n = div_away(self.nanos, unit);
        i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
    }

    /// Rounded away from zero to whole thousandths, the finest that containers can use.
    pub fn round_to_milli(self) -> Self {
        let unit = NANO / 1000;
        Self { nanos: div_away(self.nanos, unit) * unit, ..self }
    }

    /// The sum, capped; it keeps this quantity's format unless this is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos).clamp(-MAX, MAX), format }
    }
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(-other)
    }
    #[must_use]
    pub fn times(self, n: i64) -> Self {
        Self { nanos: self.nanos.saturating_mul(i128::from(n)).clamp(-MAX, MAX), ..self }
    }
}

/// Divides by a positive unit, rounding away from zero.
fn div_away(n: i128, unit: i128) -> i128 {
    let q = n / unit;
    if n % unit == 0 { q } else { q + n.signum() }
}

impl std::ops::Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}
impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.plus(other)
    }
}
impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.minus(other)
    }
}
impl std::ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = self.plus(other);
    }
}
impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::plus)
    }
}

// Amounts are equal whatever their suffix: `1000m` is `1`.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}
impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Format);
        }
        let (scale, format) = parse_suffix(suffix)?;
        let nanos = match scale {
            Scale::Ten(exponent) => decimal(whole, fraction, exponent),
            Scale::Two(shift) => {
                // The factor is exact: digits x 2^shift, all in nano-units; then decimals beyond nano are rounded.
                let units = decimal_ratio(whole, fraction, 1_i128 << shift);
                units.min(MAX)
            }
        };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn parse_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((_, e)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Scale::Ten(*e), Format::DecimalSi));
    }
    if let Some((_, e)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((Scale::Two(*e), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or_else(|| {
        // Upstream tells the two apart: characters that no suffix has, and suffixes that do not exist.
        if suffix.bytes().all(|b| b"eEinumkKMGTP0123456789+-".contains(&b)) {
            QuantityError::Suffix
        } else {
            QuantityError::Format
        }
    })?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Suffix);
    }
    let e: i64 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    // Beyond this every non-zero number is the cap, or rounds to one nano-unit.
    let e = i32::try_from(e.clamp(-2_000_000, 2_000_000)).map_err(|_| QuantityError::Suffix)?;
    Ok((Scale::Ten(e), Format::DecimalExponent))
}

/// `whole.fraction * 10^exponent` in nano-units, rounded up and capped.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> i128 {
    // The number of digits, from the left of `whole` on, that end up before the nano-unit's point.
    let kept = whole.len() as i64 + i64::from(exponent) + 9;
    let mut n: i128 = 0;
    let mut lost = false;
    let mut position: i64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).map(|b| i128::from(b - b'0')) {
        if position < kept {
            n = (n * 10 + digit).min(MAX);
        } else {
            lost |= digit != 0;
        }
        position += 1;
    }
    while n != 0 && n < MAX && position < kept {
        n = (n * 10).min(MAX);
        position += 1;
    }
    (n + i128::from(lost)).min(MAX)
}

/// `whole.fraction * factor` in nano-units, rounded up and capped.
fn decimal_ratio(whole: &str, fraction: &str, factor: i128) -> i128 {
    let whole = decimal(whole, "", 0);
    // Digits beyond the 18th cannot move the result by a nano-unit more than rounding up does.
    let mut numerator: i128 = 0;
    let mut denominator: i128 = 1;
    let mut lost = false;
    for (i, digit) in fraction.bytes().map(|b| i128::from(b - b'0')).enumerate() {
        if i < 18 {
            numerator = numerator * 10 + digit;
            denominator *= 10;
        } else {
            lost |= digit != 0;
        }
    }
    if lost {
        numerator += 1;
    }
    // numerator < 10^18+1, factor <= 2^60: the product fits; scaling to nano splits it to stay in range.
    let product = numerator * factor;
    let units = product / denominator;
    let rest = product % denominator;
    let nanos = units * NANO + (rest * NANO + denominator - 1) / denominator;
    whole.saturating_mul(factor).saturating_add(nanos).min(MAX)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANO;
        if self.format == Format::BinarySi && self.is_integer() && whole.abs() >= 1024 {
            let mut n = whole;
            let mut suffix = "";
            for (name, _) in BINARY {
                if n % 1024 != 0 {
                    break;
                }
                n /= 1024;
                suffix = name;
            }
            return write!(f, "{n}{suffix}");
        }
        let mut n = self.nanos;
        let mut exponent = -9;
        while n % 1000 == 0 && exponent < 18 {
            n /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return match exponent {
                0 => write!(f, "{n}"),
                e => write!(f, "{n}e{e}"),
            };
        }
        let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(s, _)| s);
        write!(f, "{n}{suffix}")
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(&value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_form() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            assert_eq!(Quantity::parse(text).map(|q| q.to_string()), Ok(want.to_owned()), "{text}");
        }
        check("0", "0");
        check("0.0Gi", "0");
        check("-0", "0");
        check("100m", "100m");
        check("1000m", "1");
        check("0.5", "500m");
        check(".5", "500m");
        check("5.", "5");
        check("+1.5", "1500m");
        check("1.5Gi", "1536Mi");
        check("1024Mi", "1Gi");
        check("1024", "1024");
        check("1000", "1k");
        check("1500", "1500");
        check("128974848", "128974848");
        check("129e6", "129e6");
        check("129M", "129M");
        check("123Mi", "123Mi");
        check("1e3", "1e3");
        check("1E3", "1e3");
        check("1E", "1E");
        check("100e-3", "100e-3");
        check("1023Ki", "1023Ki");
        check("0.5Ki", "512");
        check("0.5Mi", "512Ki");
        check("0.1Mi", "104857600m");
        check("1Ei", "1Ei");
        check("8Ei", "9223372036854775807");
        check("100E", "9223372036854775807");
        check("99999999999999999999999999999999999999999", "9223372036854775807");
        check("1e999999999", "9223372036854775807");
        check("1e-999999999", "1e-9");
        check("0.0000000001", "1n");
        check("-0.0000000001", "-1n");
        check("1.0000000001", "1000000001n");
        check("-1.5Gi", "-1536Mi");
        check("3u", "3u");
        check("0001", "1");
    }

    #[test]
    fn malformed_quantities_are_refused() {
        #[track_caller]
        fn check(text: &str, want: QuantityError) {
            assert_eq!(Quantity::parse(text), Err(want), "{text:?}");
        }
        check("", QuantityError::Format);
        check("-", QuantityError::Format);
        check(".", QuantityError::Format);
        check("1.2.3", QuantityError::Format);
        check("1 Gi", QuantityError::Format);
        check("abc", QuantityError::Format);
        check("1Kib", QuantityError::Format);
        check("1KK", QuantityError::Suffix);
        check("1e", QuantityError::Suffix);
        check("1e+", QuantityError::Suffix);
        check("1mi", QuantityError::Suffix);
        check("1e99999999999999999999999", QuantityError::Suffix);
        check("--1", QuantityError::Format);
        check("1é", QuantityError::Format);
    }

    #[test]
    fn rounding_and_arithmetic() {
        let q = |s: &str| Quantity::parse(s).unwrap();
        assert_eq!(q("100m").value(), 1);
        assert_eq!(q("-100m").value(), -1);
        assert_eq!(q("1500u").milli_value(), 2);
        assert_eq!(q("1500u").round_to_milli().to_string(), "2m");
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((q("0") + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("1000m"), q("1"));
        assert_eq!(q("8Ei").plus(q("8Ei")).value(), i64::MAX);
        assert_eq!(Quantity::from_value(&serde_json::json!(1)), Ok(q("1")));
        assert_eq!(Quantity::from_value(&serde_json::json!(0.5)), Ok(q("500m")));
        assert_eq!(Quantity::from_value(&serde_json::json!([])), Err(QuantityError::Format));
    }

    proptest! {
        #[test]
        fn canonical_form_is_a_fixed_point(text in "[+-]?[0-9]{0,25}(\\.[0-9]{0,25})?(n|u|m||k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,3})") {
            if let Ok(q) = Quantity::parse(&text) {
                let canonical = q.to_string();
                let again = Quantity::parse(&canonical).unwrap();
                prop_assert_eq!(again, q);
                prop_assert_eq!(again.to_string(), canonical);
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn sums_are_exact(a in -1_000_000_000_000_i64..1_000_000_000_000, b in -1_000_000_000_000_i64..1_000_000_000_000) {
            let (x, y) = (Quantity::millis(a), Quantity::millis(b));
            prop_assert_eq!((x + y).milli_value(), a + b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x + y - y, x);
        }

        #[test]
        fn whole_numbers_keep_their_value(n in any::<i64>()) {
            let n = n.max(-i64::MAX);
            prop_assert_eq!(Quantity::parse(&n.to_string()).unwrap().value(), n);
        }
    }
}
