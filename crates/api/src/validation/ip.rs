//! Addresses and networks: read in one way only, so that no two programs take one for different ones.
//!
//! Some programs read `010.0.0.1` as octal, and `::ffff:10.0.0.1` is an address of both families or of none: such
//! are refused, and so are networks with more than their prefix. Objects that have one since before may keep it.

use super::read::text;
use crate::field::{FieldErrors, Path, quote};
use serde_json::Value;
use std::net::IpAddr;

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const ZEROS: &str = "must not have leading 0s";
const MAPPED: &str = "must not be an IPv4-mapped IPv6 address";
const ZEROS_IN_CIDR: &str = "must not have leading 0s in IP or prefix length";
const MAPPED_IN_CIDR: &str = "must not have an IPv4-mapped IPv6 address";
const BITS: &str = "must not have bits set beyond the prefix length";

/// Whether this is said of values that older versions took.
pub fn was_taken_before(detail: &str) -> bool {
    [ZEROS, MAPPED, ZEROS_IN_CIDR, MAPPED_IN_CIDR, BITS].contains(&detail)
}

pub fn ip(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Err(why) = strict_ip(text(value)) {
        errors.invalid(path, value.clone(), why);
    }
}

fn strict_ip(text: &str) -> Result<IpAddr, &'static str> {
    match parse_ip(text) {
        Some(address) if is_mapped(&address) => Err(MAPPED),
        Some(address) => Ok(address),
        None if without_zeros(text).is_some() => Err(ZEROS),
        None => Err(NOT_AN_IP),
    }
}

/// As Go parses addresses: no leading zeros, no zones.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn is_mapped(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// An IPv4 address that would be one without the zeros before its numbers.
fn without_zeros(text: &str) -> Option<IpAddr> {
    const LONGEST: usize = 64;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if text.len() > LONGEST || !text.split('.').all(digits) {
        return None;
    }
    let parts: Vec<&str> = text
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" => "0",
            number => number,
        })
        .collect();
    parse_ip(&parts.join("."))
}

/// A network. False if it is none.
pub fn cidr(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) -> bool {
    let network = split(text(value))
        .and_then(|(address, prefix)| if network(address, prefix) == address { Ok(()) } else { Err(BITS) });
    if let Err(why) = network {
        errors.invalid(path, value.clone(), why);
    }
    network.is_ok()
}

fn split(text: &str) -> Result<(IpAddr, u32), &'static str> {
    let (address, prefix) = text.split_once('/').ok_or(NOT_A_CIDR)?;
    let found = strict_ip(address);
    let most = match parse_ip(address).or_else(|| without_zeros(address)) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return Err(NOT_A_CIDR),
    };
    if prefix.is_empty() || prefix.len() > 8 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_A_CIDR);
    }
    let length: u32 = prefix.parse().ok().filter(|length| *length <= most).ok_or(NOT_A_CIDR)?;
    match found {
        Err(MAPPED) => Err(MAPPED_IN_CIDR),
        Ok(address) if length.to_string() == prefix => Ok((address, length)),
        _ => Err(ZEROS_IN_CIDR),
    }
}

/// The address with the bits behind the prefix cleared.
fn network(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// A network in the one way of writing it.
pub fn canonical_cidr(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if cidr(value, path, errors) {
        canonical(value, path, errors);
    }
}

/// An address of an interface, with the prefix of its network.
pub fn interface_address(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match split(text(value)) {
        Ok(_) => canonical(value, path, errors),
        Err(_) => {
            let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.invalid(path, value.clone(), why);
        }
    }
}

fn canonical(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Ok((address, prefix)) = split(text(value)) else { return };
    let canonical = format!("{address}/{prefix}");
    if canonical != text(value) {
        errors.invalid(path, value.clone(), format!("must be in canonical form ({})", quote(&canonical)));
    }
}

/// What else could be said of an address or a network that is taken: IPv6 has many ways of writing one.
pub fn canonical_form(text: &str) -> Option<String> {
    let canonical = match text.split_once('/') {
        Some((address, prefix)) => format!("{}/{prefix}", parse_ip(address).filter(IpAddr::is_ipv6)?),
        None => parse_ip(text).filter(IpAddr::is_ipv6)?.to_string(),
    };
    (canonical != text).then_some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_of_reading() {
        let said = |check: fn(&Value, &Path<'_>, &mut FieldErrors), text: &str| {
            let mut errors = FieldErrors::new();
            check(&Value::from(text), &Path::new("x"), &mut errors);
            errors.iter().map(|error| error.detail.clone()).collect::<Vec<_>>().join("; ")
        };
        for (text, want) in [
            ("1.2.3.4", ""),
            ("2001:DB8::1", ""),
            ("010.002.003.004", ZEROS),
            ("::ffff:1.2.3.4", MAPPED),
            ("1.2.3", NOT_AN_IP),
            ("1.2.3.4000", NOT_AN_IP),
            ("", NOT_AN_IP),
        ] {
            assert_eq!(said(ip, text), want, "{text}");
        }
        let network = |value: &Value, path: &Path<'_>, errors: &mut FieldErrors| {
            let _ = cidr(value, path, errors);
        };
        for (text, want) in [
            ("10.0.0.0/8", ""),
            ("0.0.0.0/0", ""),
            ("2001:db8::/64", ""),
            ("::/0", ""),
            ("10.0.0.0/08", ZEROS_IN_CIDR),
            ("010.0.0.0/8", ZEROS_IN_CIDR),
            ("::ffff:1.2.3.0/120", MAPPED_IN_CIDR),
            ("10.0.0.1/8", BITS),
            ("2001:db8::1/64", BITS),
            ("10.0.0.0/33", NOT_A_CIDR),
            ("10.0.0.0", NOT_A_CIDR),
            ("10.0.0.0/+8", NOT_A_CIDR),
        ] {
            assert_eq!(said(network, text), want, "{text}");
        }
        assert_eq!(said(interface_address, "10.0.0.1/8"), "");
        assert_eq!(
            said(interface_address, "2001:DB8::1/64"),
            "must be in canonical form (\"2001:db8::1/64\")"
        );
        assert_eq!(said(canonical_cidr, "2001:DB8::/64"), "must be in canonical form (\"2001:db8::/64\")");
        assert_eq!(canonical_form("2001:DB8::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(canonical_form("10.0.0.1"), None);
    }
}
