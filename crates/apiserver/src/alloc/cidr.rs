//! A range of addresses that cluster IPs are taken from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// `10.96.0.0/12` or `fd00:10:96::/112`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: u128,
    prefix: u8,
    v4: bool,
}

/// The text is not a range of addresses that Services can use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("service CIDR {text:?} is not a range like 10.96.0.0/12 with at least 4 addresses")]
pub struct CidrError {
    text: String,
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError { text: text.to_owned() };
        let (address, prefix) = text.trim().split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let v4 = address.is_ipv4();
        let bits = if v4 { 32 } else { 128 };
        if prefix == 0 || prefix > bits - 2 {
            return Err(error());
        }
        let size = 1_u128 << (bits - prefix);
        let base = number(address) & !(size - 1);
        Ok(Self { base, prefix, v4 })
    }
}

impl Cidr {
    pub fn is_v4(&self) -> bool {
        self.v4
    }

    /// `IPv4` or `IPv6`, as `spec.ipFamilies` spells it.
    pub fn family(&self) -> &'static str {
        if self.v4 { "IPv4" } else { "IPv6" }
    }

    fn size(&self) -> u128 {
        1 << ((if self.v4 { 32 } else { 128 }) - self.prefix)
    }

    /// How many addresses can be given away: neither the network's own nor, with IPv4, the broadcast address.
    pub fn usable(&self) -> u128 {
        self.size() - if self.v4 { 2 } else { 1 }
    }

    /// The usable address of that index.
    pub fn nth(&self, index: u128) -> IpAddr {
        let number = self.base + 1 + index;
        match self.v4 {
            // Within the range, which lies in 32 bits.
            true => IpAddr::V4(Ipv4Addr::from(number as u32)),
            false => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }

    /// Whether the address is a usable one of this range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let index = number(address).checked_sub(self.base + 1);
        address.is_ipv4() == self.v4 && index.is_some_and(|index| index < self.usable())
    }

    /// The first index that is given away without having been asked for: those below are kept for people who
    /// choose their addresses.
    pub fn dynamic_start(&self) -> u128 {
        (self.size() / 16).clamp(16, 256).min(self.usable() - 1)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address: IpAddr = match self.v4 {
            true => Ipv4Addr::from(self.base as u32).into(),
            false => Ipv6Addr::from(self.base).into(),
        };
        write!(f, "{address}/{}", self.prefix)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |text: &str, shown: &str, usable: u128, first: &str, start: u128| {
            let cidr: Cidr = text.parse().expect("a range");
            assert_eq!(cidr.to_string(), shown);
            assert_eq!(cidr.usable(), usable, "{text}");
            assert_eq!(cidr.nth(0).to_string(), first);
            assert_eq!(cidr.dynamic_start(), start, "{text}");
            let last = cidr.nth(usable - 1);
            assert!(cidr.contains(cidr.nth(0)) && cidr.contains(last), "{text}");
        };
        check("10.96.0.0/12", "10.96.0.0/12", (1 << 20) - 2, "10.96.0.1", 256);
        check("10.96.1.7/24", "10.96.1.0/24", 254, "10.96.1.1", 16);
        check("10.0.0.0/29", "10.0.0.0/29", 6, "10.0.0.1", 5);
        check("fd00::/108", "fd00::/108", (1 << 20) - 1, "fd00::1", 256);
        for junk in ["", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/0", "10.0.0.0/33", "fd00::/127", "x/8", "::/0"]
        {
            assert!(junk.parse::<Cidr>().is_err(), "{junk}");
        }
    }

    #[test]
    fn membership() {
        let cidr: Cidr = "10.96.0.0/16".parse().expect("a range");
        let check = |address: &str, expected: bool| {
            assert_eq!(cidr.contains(address.parse().expect("an address")), expected, "{address}");
        };
        check("10.96.0.1", true);
        check("10.96.255.254", true);
        check("10.96.0.0", false);
        check("10.96.255.255", false);
        check("10.97.0.1", false);
        check("::1", false);
        check("::ffff:10.96.0.1", false);
    }
}
