//! The pod network's nftables table: leaving the cluster, host ports, and what guards them.
//!
//! ```text
//! prerouting, output: to this node, or to one of its addresses: @host-ports → dnat to a pod
//! postrouting:        from a pod to outside the cluster: masquerade
//!                     through a host port from the node's loopback or to oneself: masquerade
//! guard:              from a pod to 127.0.0.0/8: drop
//! ```
//! The node's own processes reach host ports and node ports at 127.0.0.1 too. For that the kernel must route loopback
//! addresses over the bridge, which would open the node's loopback to pods, but for the guard.

use std::net::IpAddr;

use crate::hostport::Mapping;
use crate::nft::{
    Batch, Chain, Compare, CtKey, Data, Element, Expr, Family, FibResult, FibSource, Field, Header, Hook,
    MetaKey, Nat, Nft, Reg, Set, Verdict,
};
use crate::{IpNet, Result, sysctl};

const RAW: i32 = -300;
/// Service routing looks first: its addresses are more particular.
const DESTINATION_NAT: i32 = -90;
const SOURCE_NAT: i32 = 100;
const MULTICAST: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];
const LOOPBACK: &str = "127.0.0.0/8";
const IPS_DST_NAT: u32 = 0x20;
const RTN_LOCAL: u32 = 2;

/// One node's pod network, as rules.
pub(crate) struct Rules<'a> {
    pub table: &'a str,
    pub bridge: &'a str,
    pub pods: &'a [IpNet],
    pub cluster: &'a [IpNet],
}

impl Rules<'_> {
    /// Puts the rules into the kernel, in place of what the table held.
    pub fn apply<'m>(&self, host_ports: impl IntoIterator<Item = &'m Mapping>) -> Result<()> {
        let mut batch = Batch::new(Family::Inet, self.table);
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        let hook = |hook, priority, nat| Some((hook, priority, nat));
        for (name, hook) in [
            ("host-ports", None),
            ("guard", hook(Hook::Prerouting, RAW, Nat::No)),
            ("prerouting", hook(Hook::Prerouting, DESTINATION_NAT, Nat::Yes)),
            ("output", hook(Hook::Output, DESTINATION_NAT, Nat::Yes)),
            ("postrouting", hook(Hook::Postrouting, SOURCE_NAT, Nat::Yes)),
        ] {
            batch.add_chain(&Chain { name, hook });
        }
        self.add_guard(&mut batch);
        add_host_ports(&mut batch);
        self.add_masquerade(&mut batch);
        add_mappings(&mut batch, host_ports);
        Nft::open()?.commit(&mut batch)?;
        if self.pods.iter().any(|net| net.addr().is_ipv4()) {
            // Only now that the guard stands.
            sysctl::set(&format!("net/ipv4/conf/{}/route_localnet", self.bridge), "1")?;
        }
        Ok(())
    }

    /// Adds and removes host ports.
    pub fn change<'m>(
        &self,
        remove: impl IntoIterator<Item = &'m Mapping>,
        add: impl IntoIterator<Item = &'m Mapping>,
    ) -> Result<()> {
        let mut batch = Batch::new(Family::Inet, self.table);
        for mapping in remove {
            batch.delete_elements(mapping.map(), [Element::key(&mapping.key())]);
        }
        add_mappings(&mut batch, add);
        if batch.is_empty() { Ok(()) } else { Nft::open()?.commit(&mut batch) }
    }

    fn add_guard(&self, batch: &mut Batch) {
        let mut name = [0; 16];
        let length = self.bridge.len().min(15);
        name[..length].copy_from_slice(&self.bridge.as_bytes()[..length]);
        let loopback: Option<IpNet> = LOOPBACK.parse().ok();
        if let Some(net) = loopback {
            let mut rule = vec![
                Expr::Meta { key: MetaKey::InterfaceInName, to: Reg(0) },
                Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: name.to_vec() },
            ];
            rule.extend(address_in(net, Side::Destination));
            rule.push(Expr::Verdict(Verdict::Drop));
            batch.add_rule("guard", &rule);
        }
    }

    fn add_masquerade(&self, batch: &mut Batch) {
        // What a host port was used for: from the node's loopback, whose address means nothing in a pod, or by the pod
        // itself, which would take the answer for its own.
        let translated = || {
            let mask = IPS_DST_NAT.to_ne_bytes().to_vec();
            vec![
                Expr::Ct { key: CtKey::Status, to: Reg(0) },
                Expr::Bitwise { from: Reg(0), to: Reg(0), mask, xor: vec![0; 4] },
                Expr::Cmp { from: Reg(0), compare: Compare::NotEqual, value: vec![0; 4] },
            ]
        };
        let loopback: Option<IpNet> = LOOPBACK.parse().ok();
        if let Some(net) = loopback {
            let rule = [translated(), address_in(net, Side::Source), vec![Expr::Masquerade]].concat();
            batch.add_rule("postrouting", &rule);
        }
        for ipv6 in [false, true] {
            let (set, field) = if ipv6 { (SELF6, Field::Ipv6) } else { (SELF4, Field::Ipv4) };
            batch.add_set(&Set::new(set, &[field, field]));
            let words = if ipv6 { 4 } else { 1 };
            let mut rule = translated();
            rule.extend(of_family(ipv6));
            rule.push(address(ipv6, Side::Source, 0));
            rule.push(address(ipv6, Side::Destination, words));
            rule.push(Expr::InSet { set: set.to_owned(), key: Reg(0), inverted: false });
            rule.push(Expr::Masquerade);
            batch.add_rule("postrouting", &rule);
        }
        let multicast = MULTICAST.iter().filter_map(|net| net.parse().ok());
        for net in multicast.chain(self.cluster.iter().copied()).chain(self.pods.iter().copied()) {
            let mut rule = address_in(net, Side::Destination);
            rule.push(Expr::Verdict(Verdict::Return));
            batch.add_rule("postrouting", &rule);
        }
        for net in self.pods {
            let mut rule = address_in(*net, Side::Source);
            rule.push(Expr::Masquerade);
            batch.add_rule("postrouting", &rule);
        }
    }
}

const SELF4: &str = "host-ports-self4";
const SELF6: &str = "host-ports-self6";

/// The maps of host ports: on one address of the node, and on all; the particular one first.
fn add_host_ports(batch: &mut Batch) {
    for chain in ["prerouting", "output"] {
        let jump = Expr::Verdict(Verdict::Jump("host-ports".to_owned()));
        let local = [
            Expr::Fib { source: FibSource::DestinationAddress, result: FibResult::AddressType, to: Reg(0) },
            Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: RTN_LOCAL.to_ne_bytes().to_vec() },
            jump,
        ];
        batch.add_rule(chain, &local);
    }
    for ipv6 in [false, true] {
        let (ip, words) = if ipv6 { (Field::Ipv6, 4) } else { (Field::Ipv4, 1) };
        let (protocol, port) = (Field::Protocol, Field::Service);
        let endpoint = [ip, port];
        batch.add_set(&Set::map(crate::hostport::on_one(ipv6), &[ip, protocol, port], &endpoint));
        batch.add_set(&Set::map(crate::hostport::on_all(ipv6), &[protocol, port], &endpoint));
        let found = 8;
        for (map, key) in [(crate::hostport::on_one(ipv6), 0), (crate::hostport::on_all(ipv6), words)] {
            let mut rule = of_family(ipv6);
            rule.extend([
                address(ipv6, Side::Destination, 0),
                Expr::Meta { key: MetaKey::Transport, to: Reg(words) },
                Expr::Payload { header: Header::Transport, offset: 2, length: 2, to: Reg(words + 1) },
                Expr::Map { map: map.to_owned(), key: Reg(key), to: Reg(found) },
                Expr::Dnat { ipv6, address: Reg(found), port: Reg(found + words) },
            ]);
            if key > 0 {
                rule.remove(2);
            }
            batch.add_rule("host-ports", &rule);
        }
    }
}

fn add_mappings<'m>(batch: &mut Batch, mappings: impl IntoIterator<Item = &'m Mapping>) {
    let mut selves = std::collections::BTreeSet::new();
    for mapping in mappings {
        let (key, data) = (mapping.key(), Data::Value(mapping.endpoint()));
        batch.add_elements(mapping.map(), [Element { data: Some(&data), ..Element::key(&key) }]);
        selves.insert(mapping.pod.ip());
    }
    for ip in selves {
        let set = if ip.is_ipv6() { SELF6 } else { SELF4 };
        // An address stays in this set: it means nothing but for connections through a host port to itself.
        batch.add_elements(set, [Element::key(&octets(ip).repeat(2))]);
    }
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn of_family(ipv6: bool) -> Vec<Expr> {
    let family = if ipv6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
    vec![
        Expr::Meta { key: MetaKey::Family, to: Reg(0) },
        Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: vec![family as u8] },
    ]
}

fn address(ipv6: bool, side: Side, to: u8) -> Expr {
    let (source, length) = if ipv6 { (8, 16) } else { (12, 4) };
    let offset = match side {
        Side::Source => source,
        Side::Destination => source + length,
    };
    Expr::Payload { header: Header::Network, offset, length, to: Reg(to) }
}

/// Matches packets whose address on that side is in `net`.
fn address_in(net: IpNet, side: Side) -> Vec<Expr> {
    let ipv6 = net.addr().is_ipv6();
    let mask = octets(net.netmask());
    let mut rule = of_family(ipv6);
    rule.extend([
        address(ipv6, side, 0),
        Expr::Bitwise { from: Reg(0), to: Reg(0), xor: vec![0; mask.len()], mask },
        Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: octets(net.network()) },
    ]);
    rule
}
