//! Quantities as numbers: `100m`, `1Gi`, `1.5`, `2e3`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub type Resources = BTreeMap<String, Quantity>;

/// Thousandths, rounded up; nothing for what is not a quantity. Saturates.
pub fn milli(text: &str) -> Option<i64> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 || whole.len() > 18 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let below = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // As (times, divided by), so that nothing is lost before the end.
    let (times, over): (i128, i128) = match suffix {
        "" => (1000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "k" => (1_000_000, 1),
        "M" => (10_i128.pow(9), 1),
        "G" => (10_i128.pow(12), 1),
        "T" => (10_i128.pow(15), 1),
        "P" => (10_i128.pow(18), 1),
        "E" => (10_i128.pow(21), 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        "Ei" => (1000 << 60, 1),
        _ => match suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()? {
            exponent @ 0..=18 => (1000 * 10_i128.pow(exponent.unsigned_abs()), 1),
            exponent @ -18..=-1 => (1000, 10_i128.pow(exponent.unsigned_abs())),
            _ => return None,
        },
    };
    let over = over.checked_mul(below)?;
    let scaled = digits.checked_mul(times)?;
    let rounded = scaled.checked_add(over - 1)? / over;
    let value = i64::try_from(rounded).unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

/// Whole units, rounded up.
pub fn value(text: &str) -> Option<i64> {
    if let Ok(plain) = text.parse::<i64>() {
        return Some(plain);
    }
    // Large binary sizes do not fit as thousandths.
    for (suffix, shift) in [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)] {
        if let Some(number) = text.strip_suffix(suffix).and_then(|n| n.parse::<i64>().ok()) {
            return Some(number.checked_mul(1_i64 << shift).unwrap_or(i64::MAX));
        }
    }
    let milli = milli(text)?;
    Some(milli.div_euclid(1000) + i64::from(milli.rem_euclid(1000) > 0))
}

pub fn milli_of(resources: Option<&Resources>, name: &str) -> Option<i64> {
    milli(&resources?.get(name)?.0)
}

pub fn value_of(resources: Option<&Resources>, name: &str) -> Option<i64> {
    value(&resources?.get(name)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_writes() {
        for (text, milli_expected, value_expected) in [
            ("100m", Some(100), Some(1)),
            ("1", Some(1000), Some(1)),
            ("1.5", Some(1500), Some(2)),
            ("0.0001", Some(1), Some(1)),
            ("2e3", Some(2_000_000), Some(2000)),
            ("1Gi", Some(1_073_741_824_000), Some(1 << 30)),
            ("128Mi", Some(134_217_728_000), Some(128 << 20)),
            ("1.5Gi", Some(1_610_612_736_000), Some(1_610_612_736)),
            ("500n", Some(1), Some(1)),
            ("16Ei", Some(i64::MAX), Some(i64::MAX)),
            ("", None, None),
            (".", None, None),
            ("1x", None, None),
            ("Gi", None, None),
        ] {
            assert_eq!(milli(text), milli_expected, "{text}");
            assert_eq!(value(text), value_expected, "{text}");
        }
    }
}
