//! Which parts of a network are in use. Free of IO.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More nodes than this do not fit a cluster anyway.
const MOST_PARTS: u32 = 1 << 16;

pub struct Allocator {
    base: IpAddr,
    part_prefix: u8,
    parts: u32,
    used: BTreeSet<u32>,
}

impl Allocator {
    pub fn new(cidr: &str, part_prefix: u8) -> Result<Self, &'static str> {
        let (base, prefix) = parse(cidr).ok_or("it is not of the form address/prefix")?;
        if part_prefix < prefix {
            return Err("it is smaller than that");
        }
        if part_prefix > bits(base) {
            return Err("addresses are shorter than that");
        }
        let parts = 1_u32.checked_shl(u32::from(part_prefix - prefix)).unwrap_or(u32::MAX).min(MOST_PARTS);
        Ok(Self { base: network(base, prefix), part_prefix, parts, used: BTreeSet::new() })
    }

    /// The first free part.
    pub fn allocate(&mut self) -> Option<String> {
        let mut free = 0;
        for &used in &self.used {
            if used != free {
                break;
            }
            free += 1;
        }
        if free >= self.parts {
            return None;
        }
        self.used.insert(free);
        Some(format!("{}/{}", self.address(free), self.part_prefix))
    }

    /// Notes a part that a node has already. One from outside of the network is none of ours.
    pub fn take(&mut self, cidr: &str) {
        if let Some(part) = self.part(cidr) {
            self.used.insert(part);
        }
    }

    pub fn release(&mut self, cidr: &str) {
        if let Some(part) = self.part(cidr) {
            self.used.remove(&part);
        }
    }

    fn address(&self, part: u32) -> IpAddr {
        let shift = u32::from(bits(self.base) - self.part_prefix);
        match self.base {
            IpAddr::V4(base) => {
                let offset = part.checked_shl(shift).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(base) | offset))
            }
            IpAddr::V6(base) => {
                let offset = u128::from(part).checked_shl(shift).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(base) | offset))
            }
        }
    }

    fn part(&self, cidr: &str) -> Option<u32> {
        let (address, _) = parse(cidr)?;
        let shift = u32::from(bits(self.base) - self.part_prefix);
        let offset = match (address, self.base) {
            (IpAddr::V4(a), IpAddr::V4(base)) => u128::from(u32::from(a).checked_sub(u32::from(base))?),
            (IpAddr::V6(a), IpAddr::V6(base)) => u128::from(a).checked_sub(u128::from(base))?,
            _ => return None,
        };
        let part = u32::try_from(offset.checked_shr(shift).unwrap_or(0)).ok()?;
        (part < self.parts).then_some(part)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn parse(cidr: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = cidr.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    (prefix <= bits(address)).then_some((address, prefix))
}

fn network(address: IpAddr, prefix: u8) -> IpAddr {
    let host = u32::from(bits(address) - prefix);
    match address {
        IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from(u32::from(a) & u32::MAX.checked_shl(host).unwrap_or(0))),
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a) & u128::MAX.checked_shl(host).unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_given_in_order_and_again_after_release() {
        let mut allocator = Allocator::new("10.244.7.9/16", 24).unwrap();
        allocator.take("10.244.1.0/24");
        allocator.take("192.168.0.0/24");
        assert_eq!(allocator.allocate().as_deref(), Some("10.244.0.0/24"));
        assert_eq!(allocator.allocate().as_deref(), Some("10.244.2.0/24"));
        allocator.release("10.244.1.0/24");
        assert_eq!(allocator.allocate().as_deref(), Some("10.244.1.0/24"));
    }

    #[test]
    fn a_full_network_gives_nothing() {
        let mut allocator = Allocator::new("fd00::/64", 65).unwrap();
        assert_eq!(allocator.allocate().as_deref(), Some("fd00::/65"));
        assert_eq!(allocator.allocate().as_deref(), Some("fd00::8000:0:0:0/65"));
        assert_eq!(allocator.allocate(), None);
    }

    #[test]
    fn bad_networks_are_refused() {
        let check = |cidr, mask| assert!(Allocator::new(cidr, mask).is_err(), "{cidr} {mask}");
        check("10.0.0.0", 24);
        check("10.0.0.0/33", 24);
        check("10.0.0.0/25", 24);
        check("10.0.0.0/8", 33);
        check("", 24);
    }
}
