//! Blocks of addresses cut into pieces that do not overlap.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::IpNet;

use crate::policy::Block;

/// From and to, both included, and the blocks that all of it is in.
pub(super) type Piece = (IpAddr, IpAddr, Vec<u32>);

/// Cuts one family's whole address space at every edge of `blocks`; neighbours in the same blocks are one piece.
pub(super) fn pieces<'a>(ipv6: bool, blocks: impl Iterator<Item = (u32, &'a Block)>) -> Vec<Piece> {
    let blocks: Vec<(u32, &Block)> =
        blocks.filter(|(_, block)| block.cidr.addr().is_ipv6() == ipv6).collect();
    let top = if ipv6 { u128::MAX } else { u128::from(u32::MAX) };
    let mut starts = BTreeSet::from([0]);
    for (_, block) in &blocks {
        for net in std::iter::once(&block.cidr).chain(same_family(block)) {
            let (first, last) = edges(net);
            starts.insert(first);
            if last < top {
                starts.insert(last + 1);
            }
        }
    }
    let starts: Vec<u128> = starts.into_iter().collect();
    let mut found: Vec<(u128, u128, Vec<u32>)> = Vec::new();
    for (n, first) in starts.iter().enumerate() {
        let last = starts.get(n + 1).map_or(top, |next| next - 1);
        let inside = |net: &IpNet| {
            let (low, high) = edges(net);
            low <= *first && *first <= high
        };
        let contains = |block: &Block| inside(&block.cidr) && !same_family(block).any(inside);
        let mut members: Vec<u32> =
            blocks.iter().filter(|(_, block)| contains(block)).map(|(id, _)| *id).collect();
        members.sort_unstable();
        match found.last_mut() {
            Some((_, end, before)) if *before == members => *end = last,
            _ => found.push((*first, last, members)),
        }
    }
    found.into_iter().map(|(first, last, ids)| (address(first, ipv6), address(last, ipv6), ids)).collect()
}

fn same_family(block: &Block) -> impl Iterator<Item = &IpNet> {
    block.except.iter().filter(|net| net.addr().is_ipv6() == block.cidr.addr().is_ipv6())
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn edges(net: &IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

fn address(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from(number).into()
    } else {
        Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ipv6: bool, blocks: &[(&str, &[&str])]) -> Vec<String> {
        let net = |text: &str| text.parse::<IpNet>().expect("net");
        let blocks: Vec<Block> = blocks
            .iter()
            .map(|(cidr, except)| Block { cidr: net(cidr), except: except.iter().map(|e| net(e)).collect() })
            .collect();
        let numbered = blocks.iter().enumerate().map(|(n, block)| (n as u32 + 1, block));
        pieces(ipv6, numbered).iter().map(|(first, last, ids)| format!("{first}-{last} {ids:?}")).collect()
    }

    #[test]
    fn the_whole_space_is_covered_without_overlap() {
        assert_eq!(shown(false, &[]), ["0.0.0.0-255.255.255.255 []"]);
        assert_eq!(
            shown(false, &[("10.0.0.0/8", &["10.1.0.0/16"]), ("10.1.2.0/24", &[]), ("::/0", &[])]),
            [
                "0.0.0.0-9.255.255.255 []",
                "10.0.0.0-10.0.255.255 [1]",
                "10.1.0.0-10.1.1.255 []",
                "10.1.2.0-10.1.2.255 [2]",
                "10.1.3.0-10.1.255.255 []",
                "10.2.0.0-10.255.255.255 [1]",
                "11.0.0.0-255.255.255.255 []",
            ]
        );
        assert_eq!(
            shown(false, &[("0.0.0.0/0", &["255.255.255.255/32"])]),
            ["0.0.0.0-255.255.255.254 [1]", "255.255.255.255-255.255.255.255 []"]
        );
        assert_eq!(
            shown(true, &[("::/0", &[]), ("2001:db8::/32", &["2001:db8::/32", "10.0.0.0/8"])]),
            ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff [1]"]
        );
    }
}
