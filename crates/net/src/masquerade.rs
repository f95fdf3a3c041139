//! Pods leave the cluster with the node's address.

use std::net::IpAddr;

use crate::nft::{Batch, Chain, Compare, Expr, Family, Header, Hook, MetaKey, Nat, Nft, Reg, Verdict};
use crate::{IpNet, Result};

/// Behind the destination NAT of other tables, at the usual place of source NAT.
const SOURCE_NAT: i32 = 100;
const CHAIN: &str = "postrouting";
const MULTICAST: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];

/// The masquerading rules of one node's pod network.
pub(crate) struct Masquerade<'a> {
    pub table: &'a str,
    pub pods: &'a [IpNet],
    pub cluster: &'a [IpNet],
}

impl Masquerade<'_> {
    /// Puts the rules into the kernel, in place of what the table held.
    pub fn apply(&self) -> Result<()> {
        let mut batch = Batch::new(Family::Inet, self.table);
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        let hook = Some((Hook::Postrouting, SOURCE_NAT, Nat::Yes));
        batch.add_chain(&Chain { name: CHAIN, hook });
        let multicast = MULTICAST.iter().filter_map(|net| net.parse().ok());
        for net in multicast.chain(self.cluster.iter().copied()).chain(self.pods.iter().copied()) {
            let mut rule = address_in(net, Side::Destination);
            rule.push(Expr::Verdict(Verdict::Return));
            batch.add_rule(CHAIN, &rule);
        }
        for net in self.pods {
            let mut rule = address_in(*net, Side::Source);
            rule.push(Expr::Masquerade);
            batch.add_rule(CHAIN, &rule);
        }
        Nft::open()?.commit(&mut batch)
    }
}

enum Side {
    Source,
    Destination,
}

/// Matches packets whose address on that side is in `net`.
fn address_in(net: IpNet, side: Side) -> Vec<Expr> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (family, source, length) = match net {
        IpNet::V4(_) => (libc::NFPROTO_IPV4, 12, 4),
        IpNet::V6(_) => (libc::NFPROTO_IPV6, 8, 16),
    };
    let offset = match side {
        Side::Source => source,
        Side::Destination => source + length,
    };
    let address = Reg(0);
    vec![
        Expr::Meta { key: MetaKey::Family, to: address },
        Expr::Cmp { from: address, compare: Compare::Equal, value: vec![family as u8] },
        Expr::Payload { header: Header::Network, offset, length, to: address },
        Expr::Bitwise {
            from: address,
            to: address,
            mask: bytes(net.netmask()),
            xor: vec![0; length as usize],
        },
        Expr::Cmp { from: address, compare: Compare::Equal, value: bytes(net.network()) },
    ]
}
