//! The shape of the kernel's tables: sets, maps, chains, rules, and elements as bytes.
//!
//! One table per address family (`ip`, `ip6`), the same in both but for the length of addresses:
//! ```text
//! nat-prerouting, nat-output ──► services
//! services:    from a pod or from this node ──► inside
//!              destination → @services → backend set . class → @classes → goto n…
//!              destination address in @service-ips: reject
//! inside:      destination → @inside → backend set . class → @classes → goto n…
//! n3-…:        sources outside @ranges: drop; mark what is to be masqueraded;
//!              a client in @affinity goes where it was, if that is still in @sticky;
//!              others: backend set . random(3) → @endpoints → dnat
//! nat-postrouting: marked, or sent to itself (@hairpin): masquerade
//! ```
//! A rule may use only registers that it has loaded itself, so each of a class's rules begins with the lookup of the
//! backend set; a chain is run once per connection.

use std::net::IpAddr;

use net::IpNet;
use net::nft::{
    Batch, Chain, Compare, CtKey, Expr, Family, Field, FibResult, FibSource, Header, Hook, MetaKey, Nat, Reg,
    Reject, Set, Verdict,
};

use crate::class::{Balance, Class, Masquerade, View};
use crate::model::Element;
use crate::render::Frontend;

/// Changes with every change of this module: a table with another note is replaced whole.
const LAYOUT: &str = "corten proxy layout 1";
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
/// Upstream's bit, which other software knows to leave alone.
const MASQUERADE_MARK: u32 = 0x4000;
const IPS_DST_NAT: u32 = 0x20;
const RTN_LOCAL: u32 = 2;
/// How many clients can stick to endpoints at a time.
const AFFINITY_SIZE: u32 = 262_144;

pub(crate) const SERVICES: &str = "services";
const INSIDE: &str = "inside";
pub(crate) const ENDPOINTS: &str = "endpoints";
const STICKY: &str = "sticky";
const AFFINITY: &str = "affinity";
const RANGES: &str = "ranges";
const SERVICE_IPS: &str = "service-ips";
const HAIRPIN: &str = "hairpin";
pub(crate) const CLASSES: &str = "classes";

/// The maps and sets whose elements are ours (not made by packets).
pub(crate) const OWNED: [&str; 8] =
    [ENDPOINTS, STICKY, RANGES, HAIRPIN, SERVICES, INSIDE, SERVICE_IPS, CLASSES];

/// The shape for one address family.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub ipv6: bool,
    pub table: String,
    cluster: Vec<IpNet>,
}

impl Layout {
    pub fn new(table: &str, cluster: &[IpNet], ipv6: bool) -> Self {
        let cluster = cluster.iter().filter(|net| net.addr().is_ipv6() == ipv6);
        Self {
            ipv6,
            table: table.to_owned(),
            cluster: cluster.map(IpNet::trunc).collect(),
        }
    }

    pub fn family(&self) -> Family {
        if self.ipv6 { Family::Ipv6 } else { Family::Ipv4 }
    }

    pub fn batch(&self) -> Batch {
        Batch::new(self.family(), &self.table)
    }

    /// The note on a table that has this very shape.
    pub fn note(&self) -> Vec<u8> {
        format!("{LAYOUT} {:?}", self.cluster).into_bytes()
    }

    /// Makes the table in place of what is there, without elements.
    pub fn create(&self, batch: &mut Batch) {
        batch.add_table(&[]);
        batch.delete_table();
        batch.add_table(&self.note());
        let address = if self.ipv6 { Field::Ipv6 } else { Field::Ipv4 };
        let (number, port) = (Field::Number, Field::Service);
        let destination = [address, Field::Protocol, port];
        let target = [number, number, number];
        batch.add_set(&Set::map(SERVICES, &destination, &target));
        batch.add_set(&Set::map(INSIDE, &destination, &target));
        batch.add_set(&Set::map(ENDPOINTS, &[number, number], &[address, port]));
        batch.add_set(&Set::new(STICKY, &[number, address, port]));
        let affinity = Set::map(AFFINITY, &[number, address], &[address, port]);
        batch.add_set(&Set { dynamic: Some(AFFINITY_SIZE), ..affinity });
        batch.add_set(&Set { interval: true, ..Set::new(RANGES, &[number, address]) });
        batch.add_set(&Set::new(SERVICE_IPS, &[address]));
        batch.add_set(&Set::new(HAIRPIN, &[address, address]));
        batch.add_set(&Set::verdict_map(CLASSES, &[number, number]));

        for name in ["inside", "services"] {
            batch.add_chain(&Chain { name, hook: None });
        }
        for (name, hook, priority) in [
            ("nat-prerouting", Hook::Prerouting, DESTINATION_NAT),
            ("nat-output", Hook::Output, DESTINATION_NAT),
            ("nat-postrouting", Hook::Postrouting, SOURCE_NAT),
        ] {
            batch.add_chain(&Chain { name, hook: Some((hook, priority, Nat::Yes)) });
        }
        let jump = |chain: &str| Expr::Verdict(Verdict::Jump(chain.to_owned()));
        batch.add_rule("nat-prerouting", &[jump("services")]);
        batch.add_rule("nat-output", &[jump("services")]);
        for net in &self.cluster {
            let mut rule = self.source_in(*net, Compare::Equal);
            rule.push(jump("inside"));
            batch.add_rule("services", &rule);
        }
        let mut rule = from_this_node();
        rule.push(jump("inside"));
        batch.add_rule("services", &rule);
        batch.add_rule("services", &self.dispatch(View::Services));
        batch.add_rule("services", &self.reject_unknown_port());
        batch.add_rule("inside", &self.dispatch(View::Inside));
        batch.add_rule("nat-postrouting", &masquerade_marked());
        batch.add_rule("nat-postrouting", &self.masquerade_hairpin());
    }

    /// Makes a class's chain, with what leads to it.
    pub fn add_class(&self, batch: &mut Batch, class: Class) {
        let name = class.chain();
        batch.add_chain(&Chain { name: &name, hook: None });
        match class {
            Class::Reject => batch.add_rule(&name, &[Expr::Reject(Reject::PortUnreachable { ipv6: self.ipv6 })]),
            Class::Drop => batch.add_rule(&name, &[Expr::Verdict(Verdict::Drop)]),
            Class::Balance(balance) => {
                for rule in self.balance_rules(balance) {
                    batch.add_rule(&name, &rule);
                }
            }
        }
    }

    // Registers: a destination or other scratch from 0; the backend set's id, and what is looked up with it, behind.

    /// How many registers an address takes.
    fn words(&self) -> u8 {
        if self.ipv6 { 4 } else { 1 }
    }

    /// The register of the backend set's id; count and options follow, until something else is put there.
    fn id(&self) -> u8 {
        self.words() + 4
    }

    fn address(&self, source: bool, to: u8) -> Expr {
        let (first, length) = if self.ipv6 { (8, 16) } else { (12, 4) };
        let offset = if source { first } else { first + length };
        Expr::Payload { header: Header::Network, offset, length, to: Reg(to) }
    }

    /// Loads backend set and class of the packet's destination; ends the rule where there is none.
    fn find(&self, view: View) -> Vec<Expr> {
        let words = self.words();
        vec![
            self.address(false, 0),
            Expr::Meta { key: MetaKey::Transport, to: Reg(words) },
            Expr::Payload {
                header: Header::Transport,
                offset: 2,
                length: 2,
                to: Reg(words + 1),
            },
            Expr::Map { map: view_map(view).to_owned(), key: Reg(0), to: Reg(self.id()) },
        ]
    }

    fn dispatch(&self, view: View) -> Vec<Expr> {
        let mut rule = self.find(view);
        rule.push(Expr::VerdictMap { map: CLASSES.to_owned(), key: Reg(self.id() + 1) });
        rule
    }

    fn reject_unknown_port(&self) -> Vec<Expr> {
        vec![
            self.address(false, 0),
            Expr::InSet { set: SERVICE_IPS.to_owned(), key: Reg(0), inverted: false },
            Expr::Reject(Reject::PortUnreachable { ipv6: self.ipv6 }),
        ]
    }

    fn source_in(&self, net: IpNet, compare: Compare) -> Vec<Expr> {
        let mask = octets(net.netmask());
        vec![
            self.address(true, 0),
            Expr::Bitwise { from: Reg(0), to: Reg(0), xor: vec![0; mask.len()], mask },
            Expr::Cmp { from: Reg(0), compare, value: octets(net.network()) },
        ]
    }

    fn masquerade_hairpin(&self) -> Vec<Expr> {
        let mut rule = vec![
            Expr::Ct { key: CtKey::Status, to: Reg(0) },
            and(IPS_DST_NAT),
            Expr::Cmp { from: Reg(0), compare: Compare::NotEqual, value: vec![0; 4] },
        ];
        rule.push(self.address(true, 0));
        rule.push(self.address(false, self.words()));
        rule.push(Expr::InSet { set: HAIRPIN.to_owned(), key: Reg(0), inverted: false });
        rule.push(Expr::Masquerade);
        rule
    }

    fn balance_rules(&self, balance: Balance) -> Vec<Vec<Expr>> {
        let mut rules = Vec::new();
        let id = self.id();
        let find = || self.find(balance.view);
        if balance.ranges {
            let mut rule = find();
            rule.push(self.address(true, id + 1));
            rule.push(Expr::InSet { set: RANGES.to_owned(), key: Reg(id), inverted: true });
            rule.push(Expr::Verdict(Verdict::Drop));
            rules.push(rule);
        }
        match balance.masquerade {
            Masquerade::Never => {}
            Masquerade::Always => rules.push(mark()),
            Masquerade::FromNode => rules.push([from_this_node(), mark()].concat()),
            Masquerade::OffCluster => {
                let elsewhere = self.cluster.iter().map(|net| self.source_in(*net, Compare::NotEqual));
                rules.push([elsewhere.flatten().collect(), mark()].concat());
            }
        }
        let timeout_ms = u64::from(balance.affinity) * 1000;
        // The key of the affinity map: the id again, then the client's address, in the scratch area.
        let affinity_key = || {
            [
                Expr::Bitwise { from: Reg(id), to: Reg(0), mask: vec![0xff; 4], xor: vec![0; 4] },
                self.address(true, 1),
            ]
        };
        let renew = || Expr::UpdateMap {
            map: AFFINITY.to_owned(),
            key: Reg(0),
            data: Reg(id + 1),
            timeout_ms,
        };
        let dnat = || Expr::Dnat {
            ipv6: self.ipv6,
            address: Reg(id + 1),
            port: Reg(id + 1 + self.words()),
        };
        if timeout_ms > 0 {
            let mut rule = find();
            rule.push(self.address(true, id + 1));
            rule.push(Expr::Map { map: AFFINITY.to_owned(), key: Reg(id), to: Reg(id + 1) });
            rule.push(Expr::InSet { set: STICKY.to_owned(), key: Reg(id), inverted: false });
            rule.extend(affinity_key());
            rule.push(renew());
            rule.push(dnat());
            rules.push(rule);
        }
        let mut rule = find();
        rule.push(Expr::Random { modulus: balance.count, to: Reg(id + 1) });
        rule.push(Expr::Map { map: ENDPOINTS.to_owned(), key: Reg(id), to: Reg(id + 1) });
        if timeout_ms > 0 {
            // What the map has for the client is an endpoint that is gone, and would stay.
            let map = AFFINITY.to_owned();
            rule.extend(affinity_key());
            rule.push(Expr::DeleteFromMap { map, key: Reg(0), data: Reg(id + 1) });
            rule.push(renew());
        }
        rule.push(dnat());
        rules.push(rule);
        rules
    }
}

fn from_this_node() -> Vec<Expr> {
    vec![
        Expr::Fib {
            source: FibSource::SourceAddress,
            result: FibResult::AddressType,
            to: Reg(0),
        },
        Expr::Cmp {
            from: Reg(0),
            compare: Compare::Equal,
            value: RTN_LOCAL.to_ne_bytes().to_vec(),
        },
    ]
}

fn and(bits: u32) -> Expr {
    Expr::Bitwise {
        from: Reg(0),
        to: Reg(0),
        mask: bits.to_ne_bytes().to_vec(),
        xor: vec![0; 4],
    }
}

/// Sets the mark's masquerade bit and leaves the others.
fn mark() -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        Expr::Bitwise {
            from: Reg(0),
            to: Reg(0),
            mask: (!MASQUERADE_MARK).to_ne_bytes().to_vec(),
            xor: MASQUERADE_MARK.to_ne_bytes().to_vec(),
        },
        Expr::SetMeta { key: MetaKey::Mark, from: Reg(0) },
    ]
}

fn masquerade_marked() -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        and(MASQUERADE_MARK),
        Expr::Cmp { from: Reg(0), compare: Compare::NotEqual, value: vec![0; 4] },
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        and(!MASQUERADE_MARK),
        Expr::SetMeta { key: MetaKey::Mark, from: Reg(0) },
        Expr::Masquerade,
    ]
}

pub(crate) fn view_map(view: View) -> &'static str {
    match view {
        View::Services => SERVICES,
        View::Inside => INSIDE,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A port with its padding.
fn port_bytes(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// An element's map and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub map: &'static str,
    pub key: Vec<u8>,
    pub key_end: Option<Vec<u8>>,
    pub data: Option<Vec<u8>>,
}

pub(crate) fn destination(frontend: &Frontend) -> Vec<u8> {
    let mut key = octets(frontend.ip);
    key.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&port_bytes(frontend.port));
    key
}

/// The key of a class in the map of classes.
pub(crate) fn class_key(class: Class) -> Vec<u8> {
    let (count, options) = class.numbers();
    [count.to_ne_bytes(), options.to_ne_bytes()].concat()
}

pub(crate) fn encode(element: &Element) -> Encoded {
    let set = |map, key| Encoded { map, key, key_end: None, data: None };
    match element {
        Element::Frontend { view, frontend, id, class } => {
            let data = [id.to_ne_bytes().to_vec(), class_key(*class)].concat();
            Encoded { data: Some(data), ..set(view_map(*view), destination(frontend)) }
        }
        Element::Endpoint { id, index, address } => {
            let mut data = octets(address.ip());
            data.extend_from_slice(&port_bytes(address.port()));
            let key = [id.to_ne_bytes(), index.to_ne_bytes()].concat();
            Encoded { data: Some(data), ..set(ENDPOINTS, key) }
        }
        Element::Sticky { id, address } => {
            let mut key = id.to_ne_bytes().to_vec();
            key.extend_from_slice(&octets(address.ip()));
            key.extend_from_slice(&port_bytes(address.port()));
            set(STICKY, key)
        }
        Element::Range { id, range } => {
            let bound = |ip| [id.to_ne_bytes().to_vec(), octets(ip)].concat();
            let end = Some(bound(range.broadcast()));
            Encoded { key_end: end, ..set(RANGES, bound(range.network())) }
        }
        Element::Own { ip } => set(SERVICE_IPS, octets(*ip)),
        Element::Hairpin { ip } => set(HAIRPIN, octets(*ip).repeat(2)),
    }
}
