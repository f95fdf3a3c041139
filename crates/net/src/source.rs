//! A pod sends from its own addresses, and to the node alone.
//!
//! Containers have the capability NET_RAW by default: what a pod puts on the wire is whatever it likes. Policies and the
//! logs of others believe the source addresses of packets, so each port of the bridge lets only those of its own pod
//! through, under the pod's own Ethernet address (a bridge believes those, too). And they go to the node alone: what pods
//! send to each other is routed, where policies see it.
//!
//! ```text
//! prerouting (bridge): from a port of a pod: to another Ethernet address than the node's: drop
//!                                            IP, ARP and neighbour advertisements of its own addresses; else drop
//! forward (bridge):    from a port of a pod, to all: drop
//! ```
//! Frames from port to port cannot simply be dropped: with `br_netfilter` the kernel bridges what it has translated from
//! a Service's address to a pod's.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::link::{Mac, mac_of};
use crate::nft::{
    Batch, Chain, Compare, Element, Expr, Family, Field, Header, Hook, MetaKey, Nat, Nft, Reg, Set, Verdict,
};
use crate::rules::octets;
use crate::{Result, nft};

const PORTS: &str = "ports";
const PORT_NAME: usize = 16;
/// Before anything else that may look at frames.
const FIRST: i32 = -300;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
/// Keys are built from the port's name, the Ethernet address behind it and the address behind that.
const ETHER: Reg = Reg(4);
const ADDRESS: Reg = Reg(6);
const SCRATCH: Reg = Reg(12);

/// A pod's port and what may come through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub port: String,
    pub ips: Vec<IpAddr>,
}

fn set_of(ipv6: bool) -> &'static str {
    if ipv6 { "sources6" } else { "sources4" }
}

impl Source {
    fn mac(&self) -> Mac {
        mac_of(self.ips.first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0])))
    }

    fn name(&self) -> [u8; PORT_NAME] {
        let mut name = [0; PORT_NAME];
        for (to, from) in name.iter_mut().zip(self.port.bytes().take(PORT_NAME - 1)) {
            *to = from;
        }
        name
    }

    /// Its elements, by set.
    fn elements(&self) -> HashMap<&'static str, Vec<Vec<u8>>> {
        let mut elements = HashMap::from([(PORTS, vec![self.name().to_vec()])]);
        for ip in &self.ips {
            let mut key = self.name().to_vec();
            key.extend_from_slice(&self.mac());
            key.extend_from_slice(&[0, 0]);
            key.extend_from_slice(&octets(*ip));
            elements.entry(set_of(ip.is_ipv6())).or_default().push(key);
        }
        elements
    }
}

/// Makes the table, in place of the one that is there.
pub(crate) fn apply(table: &str, node: Mac, sources: &[Source]) -> Result<()> {
    let mut batch = Batch::new(Family::Bridge, table);
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    batch.add_set(&Set::new(PORTS, &[Field::InterfaceName]));
    batch.add_set(&Set::new(set_of(false), &[Field::InterfaceName, Field::Ether, Field::Ipv4]));
    batch.add_set(&Set::new(set_of(true), &[Field::InterfaceName, Field::Ether, Field::Ipv6]));
    batch.add_chain(&Chain { name: "sources", hook: Some((Hook::Prerouting, FIRST, Nat::No)) });
    batch.add_chain(&Chain { name: "forward", hook: Some((Hook::Forward, FIRST, Nat::No)) });
    for rule in rules(node) {
        batch.add_rule("sources", &rule);
    }
    let mut flooded = vec![port(), of_pods(false)];
    flooded.extend(to_many(Compare::NotEqual));
    flooded.push(drop_it());
    batch.add_rule("forward", &flooded);
    for source in sources {
        add_elements(&mut batch, source);
    }
    Nft::open()?.commit(&mut batch)
}

/// Lets a pod's port send; one that may already is fine.
pub(crate) fn add(table: &str, source: &Source) -> Result<()> {
    let mut batch = Batch::new(Family::Bridge, table);
    add_elements(&mut batch, source);
    Nft::open()?.commit(&mut batch)
}

/// Forgets a pod's port.
pub(crate) fn remove(table: &str, source: &Source) -> Result<()> {
    let mut batch = Batch::new(Family::Bridge, table);
    for (set, keys) in source.elements() {
        batch.delete_elements(set, keys.iter().map(|key| Element::key(key)));
    }
    Nft::open()?.commit(&mut batch)
}

pub(crate) fn remove_all(table: &str) -> Result<()> {
    nft::remove_table(Family::Bridge, table)
}

fn add_elements(batch: &mut Batch, source: &Source) {
    for (set, keys) in source.elements() {
        batch.add_elements(set, keys.iter().map(|key| Element::key(key)));
    }
}

fn port() -> Expr {
    Expr::Meta { key: MetaKey::InterfaceInName, to: Reg(0) }
}

fn of_pods(inverted: bool) -> Expr {
    Expr::InSet { set: PORTS.to_owned(), key: Reg(0), inverted }
}

fn drop_it() -> Expr {
    Expr::Verdict(Verdict::Drop)
}

fn accept() -> Expr {
    Expr::Verdict(Verdict::Accept)
}

/// Matches frames of a protocol, and loads port and Ethernet address.
fn frame(ethertype: u16) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Protocol, to: SCRATCH },
        equal(SCRATCH, ethertype.to_be_bytes().to_vec()),
        port(),
        Expr::Payload { header: Header::Link, offset: 6, length: 6, to: ETHER },
    ]
}

/// Whether a frame is for more than one: the first bit that is sent says so.
fn to_many(compare: Compare) -> [Expr; 3] {
    let mask = vec![1, 0, 0, 0, 0, 0];
    [
        Expr::Payload { header: Header::Link, offset: 0, length: 6, to: ETHER },
        Expr::Bitwise { from: ETHER, to: SCRATCH, mask, xor: vec![0; 6] },
        Expr::Cmp { from: SCRATCH, compare, value: vec![0; 6] },
    ]
}

fn equal(from: Reg, value: Vec<u8>) -> Expr {
    Expr::Cmp { from, compare: Compare::Equal, value }
}

/// What is at `offset` is one of the pod's addresses.
fn own(ipv6: bool, header: Header, offset: u32) -> [Expr; 2] {
    let length = if ipv6 { 16 } else { 4 };
    [
        Expr::Payload { header, offset, length, to: ADDRESS },
        Expr::InSet { set: set_of(ipv6).to_owned(), key: Reg(0), inverted: false },
    ]
}

/// What is at `offset` is a link-local address.
fn link_local(header: Header, offset: u32) -> [Expr; 3] {
    [
        Expr::Payload { header, offset, length: 4, to: SCRATCH },
        Expr::Bitwise { from: SCRATCH, to: SCRATCH, mask: vec![0xff, 0xc0, 0, 0], xor: vec![0; 4] },
        equal(SCRATCH, vec![0xfe, 0x80, 0, 0]),
    ]
}

fn icmpv6() -> [Expr; 2] {
    [Expr::Meta { key: MetaKey::Transport, to: SCRATCH }, equal(SCRATCH, vec![ICMPV6])]
}

fn advertisement() -> Vec<Expr> {
    let mut rule = frame(ETHERTYPE_IPV6);
    rule.extend(icmpv6());
    rule.push(Expr::Payload { header: Header::Transport, offset: 0, length: 1, to: SCRATCH });
    rule.push(equal(SCRATCH, vec![NEIGHBOUR_ADVERTISEMENT]));
    rule
}

fn rules(node: Mac) -> Vec<Vec<Expr>> {
    const SOURCE4: u32 = 12;
    const SOURCE6: u32 = 8;
    const ARP_SENDER: u32 = 14;
    const ADVERTISED: u32 = 8;
    let with = |mut rule: Vec<Expr>, more: &[Expr], verdict: Expr| {
        rule.extend_from_slice(more);
        rule.push(verdict);
        rule
    };
    let unspecified = [
        Expr::Payload { header: Header::Network, offset: SOURCE6, length: 16, to: ADDRESS },
        equal(ADDRESS, vec![0; 16]),
    ];
    vec![
        vec![port(), of_pods(true), accept()],
        with(
            to_many(Compare::Equal).to_vec(),
            &[Expr::Cmp { from: ETHER, compare: Compare::NotEqual, value: node.to_vec() }],
            drop_it(),
        ),
        with(frame(ETHERTYPE_IPV4), &own(false, Header::Network, SOURCE4), accept()),
        with(frame(ETHERTYPE_ARP), &own(false, Header::Network, ARP_SENDER), accept()),
        // That an address is behind this port.
        with(advertisement(), &own(true, Header::Transport, ADVERTISED), accept()),
        with(advertisement(), &link_local(Header::Transport, ADVERTISED), accept()),
        with(advertisement(), &[], drop_it()),
        with(frame(ETHERTYPE_IPV6), &own(true, Header::Network, SOURCE6), accept()),
        // Looking for neighbours, before and after having an address; nothing of it is routed.
        with(frame(ETHERTYPE_IPV6), &link_local(Header::Network, SOURCE6), accept()),
        with(with(frame(ETHERTYPE_IPV6), &icmpv6(), unspecified[0].clone()), &unspecified[1..], accept()),
        vec![drop_it()],
    ]
}
