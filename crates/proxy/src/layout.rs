//! The shape of the kernel's tables: sets, maps, chains, rules, and elements as bytes.
//!
//! One table per address family (`ip`, `ip6`), the same in both but for the length of addresses:
//! ```text
//! nat-prerouting, nat-output ──► services
//! services:    from a pod or from this node ──► inside
//!              destination → @services → class and backend set; class → @classes → goto n…
//!              destination address in @service-ips: reject
//! inside:      the same with @inside
//! n3-…:        sources outside @ranges: drop; mark what is to be masqueraded
//!              backend set . random(3) → @endpoints → dnat
//! n3-…-sticky: backend set . client → @affinity → number; backend set . number → @numbered → dnat
//!              others: backend set . random(3) → @numbers → number; → @numbered → dnat, and remember
//! nat-postrouting: marked, or sent to itself (@hairpin): masquerade
//! ```
//! `@services` is no verdict map, because for each new verdict the kernel checks the whole map (20 ms at 44,000
//! elements, measured). What a map gives can be a key again only by way of the packet mark, as `nft` sees it: its
//! listing gives up on anything else. The mark is put back in the same rule. A rule may use only registers that it has
//! loaded itself, so each rule of a class begins with the lookup; a chain is run once per connection.

use std::net::IpAddr;

use net::IpNet;
use net::nft::{
    Batch, Chain, Compare, CtKey, Expr, Family, FibResult, FibSource, Field, Header, Hook, MapElement,
    MetaKey, Nat, Reg, Reject, Set, Verdict,
};

use crate::class::{Balance, Class, Masquerade, View};
use crate::model::{Element, ID_BITS, ID_MASK, NumberedClass};
use crate::render::Frontend;
use crate::{Config, Local};

/// Of `struct ifreq`.
const INTERFACE_NAME: usize = 16;
/// Changes with every change of sets and maps: a table with another note is replaced whole.
const NOTE: &str = "Corten service routing, layout 1";
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
const IPS_DST_NAT: u32 = 0x20;
const RTN_LOCAL: u32 = 2;
/// How many clients can stick to endpoints at a time.
const AFFINITY_SIZE: u32 = 262_144;

const SERVICES: &str = "services";
const INSIDE: &str = "inside";
pub(crate) const ENDPOINTS: &str = "endpoints";
pub(crate) const NUMBERS: &str = "numbers";
pub(crate) const NUMBERED: &str = "numbered";
const AFFINITY: &str = "affinity";
const RANGES: &str = "ranges";
const SERVICE_IPS: &str = "service-ips";
const HAIRPIN: &str = "hairpin";
pub(crate) const CLASSES: &str = "classes";

/// The maps and sets whose elements are ours (not made by packets), in the order in which they are changed: what is led
/// to before what leads there.
pub(crate) const OWNED: [&str; 8] =
    [ENDPOINTS, NUMBERED, NUMBERS, RANGES, HAIRPIN, SERVICES, INSIDE, SERVICE_IPS];

// Registers. A destination is looked up from 0 on; the same registers then hold the backend set's id, the client's
// address behind it. The others must not overlap with those.
const KEY: u8 = 0;
const SECOND_KEY: u8 = 6;
const ENDPOINT: u8 = 8;
const FOUND: u8 = 14;
const MARK: u8 = 15;

/// The shape for one address family.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub ipv6: bool,
    pub table: String,
    pods: Pods,
    mark: u32,
}

/// How packets of pods are told from others.
#[derive(Clone, Debug)]
enum Pods {
    Networks(Vec<IpNet>),
    /// The name of the interface they come by, or how it begins: what is compared.
    Interface(Vec<u8>),
}

impl Layout {
    pub fn new(config: &Config, ipv6: bool) -> Self {
        let pods = match &config.local {
            Local::ClusterCidr | Local::NodeCidr => {
                let networks = config.cluster_cidr.iter().filter(|net| net.addr().is_ipv6() == ipv6);
                Pods::Networks(networks.map(IpNet::trunc).collect())
            }
            Local::Interface(name) => {
                let mut whole = name.as_bytes().to_vec();
                whole.resize(INTERFACE_NAME, 0);
                Pods::Interface(whole)
            }
            Local::InterfacePrefix(prefix) => {
                Pods::Interface(prefix.bytes().take(INTERFACE_NAME - 1).collect())
            }
        };
        Self { ipv6, table: config.table.clone(), pods, mark: config.mark }
    }

    pub fn family(&self) -> Family {
        if self.ipv6 { Family::Ipv6 } else { Family::Ipv4 }
    }

    pub fn batch(&self) -> Batch {
        Batch::new(self.family(), &self.table)
    }

    /// The note on a table that has this very shape.
    pub fn note(&self) -> &'static str {
        NOTE
    }

    /// Makes the table in place of what is there, without elements.
    pub fn create(&self, batch: &mut Batch) {
        batch.add_table();
        batch.delete_table();
        batch.add_table_with_comment(self.note());
        let address = if self.ipv6 { Field::Ipv6 } else { Field::Ipv4 };
        let (number, port) = (Field::Number, Field::Service);
        let destination = [address, Field::Protocol, port];
        let pair = [number, number];
        batch.add_set(&Set::map(SERVICES, &destination, &[number]));
        batch.add_set(&Set::map(INSIDE, &destination, &[number]));
        batch.add_set(&Set::map(ENDPOINTS, &pair, &[address, port]));
        batch.add_set(&Set::map(NUMBERS, &pair, &[number]));
        batch.add_set(&Set::map(NUMBERED, &pair, &[address, port]));
        let affinity = Set::map(AFFINITY, &[number, address], &[number]);
        batch.add_set(&Set { dynamic: Some(AFFINITY_SIZE), ..affinity });
        batch.add_set(&Set { interval: true, ..Set::new(RANGES, &[number, address]) });
        batch.add_set(&Set::new(SERVICE_IPS, &[address]));
        batch.add_set(&Set::new(HAIRPIN, &[address, address]));
        batch.add_set(&Set::verdict_map(CLASSES, &[number]));
    }

    /// Makes the chains that are always there, and their rules in place of those that they had.
    pub fn fixed_chains(&self, batch: &mut Batch) {
        let mut chain = |name, hook| {
            batch.add_chain(&Chain { name, hook });
            batch.flush_chain(name);
        };
        let nat = |hook, priority| Some((hook, priority, Nat::Yes));
        chain("inside", None);
        chain("services", None);
        chain("nat-prerouting", nat(Hook::Prerouting, DESTINATION_NAT));
        chain("nat-output", nat(Hook::Output, DESTINATION_NAT));
        chain("nat-postrouting", nat(Hook::Postrouting, SOURCE_NAT));
        let jump = |chain: &str| Expr::Verdict(Verdict::Jump(chain.to_owned()));
        batch.add_rule("nat-prerouting", &[jump("services")]);
        batch.add_rule("nat-output", &[jump("services")]);
        let networks: Vec<Vec<Expr>> = match &self.pods {
            Pods::Networks(nets) => nets.iter().map(|net| self.source_in(*net, Compare::Equal)).collect(),
            Pods::Interface(name) => vec![came_by(name, Compare::Equal)],
        };
        for mut rule in networks {
            rule.push(jump("inside"));
            batch.add_rule("services", &rule);
        }
        let mut rule = from_this_node();
        rule.push(jump("inside"));
        batch.add_rule("services", &rule);
        batch.add_rule("services", &self.dispatch(View::Services));
        batch.add_rule("services", &self.reject_unknown_port());
        batch.add_rule("inside", &self.dispatch(View::Inside));
        batch.add_rule("nat-postrouting", &masquerade_marked(self.mark));
        batch.add_rule("nat-postrouting", &self.masquerade_hairpin());
    }

    /// Makes a class's chain, and its rules in place of those that it had.
    pub fn class_chain(&self, batch: &mut Batch, class: Class) {
        let name = class.to_string();
        batch.add_chain(&Chain { name: &name, hook: None });
        batch.flush_chain(&name);
        match class {
            Class::Reject => {
                let ipv6 = self.ipv6;
                batch.add_rule(&name, &[Expr::Reject(Reject::PortUnreachable { ipv6 })]);
            }
            Class::Drop => batch.add_rule(&name, &[Expr::Verdict(Verdict::Drop)]),
            Class::Balance(balance) => {
                for rule in self.balance_rules(balance) {
                    batch.add_rule(&name, &rule);
                }
            }
        }
    }

    /// How many registers an address takes.
    fn words(&self) -> u8 {
        if self.ipv6 { 4 } else { 1 }
    }

    fn address(&self, source: bool, to: u8) -> Expr {
        let (first, length) = if self.ipv6 { (8, 16) } else { (12, 4) };
        let offset = if source { first } else { first + length };
        Expr::Payload { header: Header::Network, offset, length, to: Reg(to) }
    }

    /// Looks up the packet's destination and loads the backend set's id into `ids`; ends the rule where there is none.
    fn find(&self, view: View, ids: &[u8]) -> Vec<Expr> {
        let mut rule = self.lookup(view, ids);
        rule.extend(ids.iter().map(|id| and(*id, ID_MASK)));
        rule
    }

    /// Looks up the packet's destination and loads what it leads to into each of `to`.
    fn lookup(&self, view: View, to: &[u8]) -> Vec<Expr> {
        let words = self.words();
        let mut rule = vec![
            self.address(false, KEY),
            Expr::Meta { key: MetaKey::Transport, to: Reg(KEY + words) },
            Expr::Payload { header: Header::Transport, offset: 2, length: 2, to: Reg(KEY + words + 1) },
            Expr::Map { map: view_map(view).to_owned(), key: Reg(KEY), to: Reg(FOUND) },
        ];
        rule.extend(by_way_of_mark(to));
        rule
    }

    fn dispatch(&self, view: View) -> Vec<Expr> {
        let mut rule = self.lookup(view, &[KEY]);
        rule.push(and(KEY, !ID_MASK));
        rule.push(Expr::VerdictMap { map: CLASSES.to_owned(), key: Reg(KEY) });
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
            and(0, IPS_DST_NAT),
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
        if balance.ranges {
            let mut rule = self.find(balance.view, &[KEY]);
            rule.push(self.address(true, KEY + 1));
            rule.push(Expr::InSet { set: RANGES.to_owned(), key: Reg(KEY), inverted: true });
            rule.push(Expr::Verdict(Verdict::Drop));
            rules.push(rule);
        }
        match balance.masquerade {
            Masquerade::Never => {}
            Masquerade::Always => rules.push(mark(self.mark)),
            Masquerade::FromNode => rules.push([from_this_node(), mark(self.mark)].concat()),
            Masquerade::OffCluster => {
                let elsewhere = match &self.pods {
                    Pods::Networks(nets) => {
                        nets.iter().flat_map(|net| self.source_in(*net, Compare::NotEqual)).collect()
                    }
                    Pods::Interface(name) => came_by(name, Compare::NotEqual),
                };
                rules.push([elsewhere, mark(self.mark)].concat());
            }
        }
        if balance.affinity > 0 {
            rules.push(self.remembered(balance));
            rules.push(self.random_and_remember(balance));
        } else {
            rules.push(self.random(balance));
        }
        rules
    }

    fn random(&self, balance: Balance) -> Vec<Expr> {
        let mut rule = self.find(balance.view, &[SECOND_KEY]);
        rule.push(Expr::Random { modulus: balance.count, to: Reg(SECOND_KEY + 1) });
        rule.push(map(ENDPOINTS, SECOND_KEY, ENDPOINT));
        rule.push(self.dnat());
        rule
    }

    /// A client that is known goes where it was, if that is still there.
    fn remembered(&self, balance: Balance) -> Vec<Expr> {
        let mut rule = self.find(balance.view, &[KEY, SECOND_KEY]);
        rule.push(self.address(true, KEY + 1));
        rule.push(map(AFFINITY, KEY, FOUND));
        rule.extend(by_way_of_mark(&[SECOND_KEY + 1]));
        rule.push(map(NUMBERED, SECOND_KEY, ENDPOINT));
        rule.push(remember(balance));
        rule.push(self.dnat());
        rule
    }

    fn random_and_remember(&self, balance: Balance) -> Vec<Expr> {
        let mut rule = self.find(balance.view, &[KEY, SECOND_KEY]);
        rule.push(self.address(true, KEY + 1));
        rule.push(Expr::Random { modulus: balance.count, to: Reg(SECOND_KEY + 1) });
        rule.push(map(NUMBERS, SECOND_KEY, FOUND));
        rule.extend(by_way_of_mark(&[SECOND_KEY + 1]));
        rule.push(map(NUMBERED, SECOND_KEY, ENDPOINT));
        // What the map has for the client, if anything, is an endpoint that is gone; renewing would keep it.
        let map = AFFINITY.to_owned();
        rule.push(Expr::DeleteFromMap { map, key: Reg(KEY), data: Reg(SECOND_KEY + 1) });
        rule.push(remember(balance));
        rule.push(self.dnat());
        rule
    }

    fn dnat(&self) -> Expr {
        Expr::Dnat { ipv6: self.ipv6, address: Reg(ENDPOINT), port: Reg(ENDPOINT + self.words()) }
    }
}

fn map(map: &str, key: u8, to: u8) -> Expr {
    Expr::Map { map: map.to_owned(), key: Reg(key), to: Reg(to) }
}

/// Loads what a map has given into each of `to`, and leaves the packet's mark as it was.
fn by_way_of_mark(to: &[u8]) -> Vec<Expr> {
    let key = MetaKey::Mark;
    let mut exprs = vec![Expr::Meta { key, to: Reg(MARK) }, Expr::SetMeta { key, from: Reg(FOUND) }];
    exprs.extend(to.iter().map(|to| Expr::Meta { key, to: Reg(*to) }));
    exprs.push(Expr::SetMeta { key, from: Reg(MARK) });
    exprs
}

fn remember(balance: Balance) -> Expr {
    Expr::UpdateMap {
        map: AFFINITY.to_owned(),
        key: Reg(KEY),
        data: Reg(SECOND_KEY + 1),
        timeout_ms: u64::from(balance.affinity) * 1000,
    }
}

fn from_this_node() -> Vec<Expr> {
    vec![
        Expr::Fib { source: FibSource::SourceAddress, result: FibResult::AddressType, to: Reg(0) },
        Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: RTN_LOCAL.to_ne_bytes().to_vec() },
    ]
}

fn and(register: u8, bits: u32) -> Expr {
    Expr::Bitwise {
        from: Reg(register),
        to: Reg(register),
        mask: bits.to_ne_bytes().to_vec(),
        xor: vec![0; 4],
    }
}

/// Compares the name of the interface that a packet came by; a shorter name is the beginning of one. What the node's own
/// processes send came by none.
fn came_by(name: &[u8], compare: Compare) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::InterfaceInName, to: Reg(0) },
        Expr::Cmp { from: Reg(0), compare, value: name.to_vec() },
    ]
}

/// Sets the mark's masquerade bit and leaves the others.
fn mark(bit: u32) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        Expr::Bitwise {
            from: Reg(0),
            to: Reg(0),
            mask: (!bit).to_ne_bytes().to_vec(),
            xor: bit.to_ne_bytes().to_vec(),
        },
        Expr::SetMeta { key: MetaKey::Mark, from: Reg(0) },
    ]
}

fn masquerade_marked(bit: u32) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        and(0, bit),
        Expr::Cmp { from: Reg(0), compare: Compare::NotEqual, value: vec![0; 4] },
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        and(0, !bit),
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

fn destination(frontend: &Frontend) -> Vec<u8> {
    let mut key = octets(frontend.ip);
    key.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&port_bytes(frontend.port));
    key
}

/// The key of a class in the map of classes.
pub(crate) fn class_key(class: &NumberedClass) -> Vec<u8> {
    (class.number << ID_BITS).to_ne_bytes().to_vec()
}

fn pair(one: u32, other: u32) -> Vec<u8> {
    [one.to_ne_bytes(), other.to_ne_bytes()].concat()
}

fn endpoint(address: &std::net::SocketAddr) -> Vec<u8> {
    let mut data = octets(address.ip());
    data.extend_from_slice(&port_bytes(address.port()));
    data
}

pub(crate) fn encode(element: &Element) -> MapElement {
    let set = |map, key| MapElement { map, key, key_end: None, data: None };
    let map = |map, key, data| MapElement { data: Some(data), ..set(map, key) };
    match element {
        Element::Frontend { view, frontend, target } => {
            map(view_map(*view), destination(frontend), target.to_ne_bytes().to_vec())
        }
        Element::Endpoint { id, slot, address } => map(ENDPOINTS, pair(*id, *slot), endpoint(address)),
        Element::Number { id, slot, number, .. } => {
            map(NUMBERS, pair(*id, *slot), number.to_ne_bytes().to_vec())
        }
        Element::Numbered { id, number, address } => map(NUMBERED, pair(*id, *number), endpoint(address)),
        Element::Range { id, range } => {
            let bound = |ip| [id.to_ne_bytes().to_vec(), octets(ip)].concat();
            let end = Some(bound(range.broadcast()));
            MapElement { key_end: end, ..set(RANGES, bound(range.network())) }
        }
        Element::Own { ip } => set(SERVICE_IPS, octets(*ip)),
        Element::Hairpin { ip } => set(HAIRPIN, octets(*ip).repeat(2)),
    }
}
