//! Kubernetes' IP and CIDR libraries. Addresses are strict: no zones, no leading zeros, no IPv4 within IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::{Cidr, Opaque, Value};

pub(super) const LIBRARY: Library = &[
    (&["isIP(string) -> bool"], is_ip),
    (&["ip(string) -> IP"], ip),
    (&["ip.isCanonical(string) -> bool"], is_canonical),
    (&["IP . family() -> int"], family),
    (&["IP . isUnspecified() -> bool"], is_unspecified),
    (&["IP . isLoopback() -> bool"], is_loopback),
    (&["IP . isLinkLocalMulticast() -> bool"], is_link_local_multicast),
    (&["IP . isLinkLocalUnicast() -> bool"], is_link_local_unicast),
    (&["IP . isGlobalUnicast() -> bool"], is_global_unicast),
    (&["isCIDR(string) -> bool"], is_cidr),
    (&["cidr(string) -> CIDR"], cidr),
    (&["CIDR . containsIP(IP) -> bool", "CIDR . containsIP(string) -> bool"], contains_ip),
    (&["CIDR . containsCIDR(CIDR) -> bool", "CIDR . containsCIDR(string) -> bool"], contains_cidr),
    (&["CIDR . ip() -> IP"], ip_of),
    (&["CIDR . masked() -> CIDR"], masked),
    (&["CIDR . prefixLength() -> int"], prefix_length),
];

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let shown = || text.chars().take(100).collect::<String>();
    let address: IpAddr = text.parse().map_err(|_| {
        EvalError::failed(format!("IP Address \"{}\" parse error during conversion from string", shown()))
    })?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(EvalError::failed(format!("IPv4-mapped IPv6 address \"{}\" is not allowed", shown())))
        }
        address => Ok(address),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    let wrong = || {
        let shown: String = text.chars().take(100).collect();
        EvalError::failed(format!("network address parse error during conversion from string: \"{shown}\""))
    };
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address = parse_ip(address).map_err(|_| wrong())?;
    let plain =
        length.bytes().all(|digit| digit.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length: u8 = length.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    if length > bits(&address) {
        return Err(wrong());
    }
    Ok(Cidr { address, length })
}

fn bits(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all bits of the host cleared.
fn network(cidr: &Cidr) -> IpAddr {
    match cidr.address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(cidr.length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(cidr.length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

fn contains(cidr: &Cidr, address: IpAddr) -> bool {
    cidr.address.is_ipv4() == address.is_ipv4()
        && network(cidr) == network(&Cidr { address, length: cidr.length })
}

fn is_ip<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    Ok(Value::Bool(parse_ip(text).is_ok()))
}

fn ip<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    parse_ip(text).map(Value::opaque)
}

fn is_canonical<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    Ok(Value::Bool(parse_ip(text)?.to_string() == **text))
}

fn asked(arguments: &[Value<'_>]) -> Result<IpAddr, EvalError> {
    let [Value::Opaque(Opaque::Ip(address))] = arguments else { return mismatch() };
    Ok(*address)
}

fn family<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Int(if asked(arguments)?.is_ipv4() { 4 } else { 6 }))
}

fn is_unspecified<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Bool(asked(arguments)?.is_unspecified()))
}

fn is_loopback<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Bool(asked(arguments)?.is_loopback()))
}

fn is_link_local_multicast<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Bool(match asked(arguments)? {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }))
}

fn link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_link_local_unicast<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    Ok(Value::Bool(link_local_unicast(asked(arguments)?)))
}

/// Whatever is none of the others; private networks count as global.
fn is_global_unicast<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let address = asked(arguments)?;
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    Ok(Value::Bool(!broadcast && !special && !link_local_unicast(address)))
}

fn is_cidr<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    Ok(Value::Bool(parse_cidr(text).is_ok()))
}

fn cidr<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    parse_cidr(text).map(Value::opaque)
}

fn contains_ip<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let (cidr, address) = match arguments {
        [Value::Opaque(Opaque::Cidr(cidr)), Value::Opaque(Opaque::Ip(address))] => (cidr, *address),
        [Value::Opaque(Opaque::Cidr(cidr)), Value::String(text)] => (cidr, parse_ip(text)?),
        _ => return mismatch(),
    };
    Ok(Value::Bool(contains(cidr, address)))
}

fn contains_cidr<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let (cidr, other) = match arguments {
        [Value::Opaque(Opaque::Cidr(cidr)), Value::Opaque(Opaque::Cidr(other))] => (cidr, *other),
        [Value::Opaque(Opaque::Cidr(cidr)), Value::String(text)] => (cidr, parse_cidr(text)?),
        _ => return mismatch(),
    };
    Ok(Value::Bool(cidr.length <= other.length && contains(cidr, other.address)))
}

fn ip_of<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Cidr(cidr))] = arguments else { return mismatch() };
    Ok(Value::opaque(cidr.address))
}

fn masked<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Cidr(cidr))] = arguments else { return mismatch() };
    Ok(Value::opaque(Cidr { address: network(cidr), length: cidr.length }))
}

fn prefix_length<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Cidr(cidr))] = arguments else { return mismatch() };
    Ok(Value::Int(cidr.length.into()))
}
