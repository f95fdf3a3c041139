//! The shape of the kernel's tables: sets, maps, chains, rules, and elements as bytes.
//!
//! One table per address family (`ip`, `ip6`), the same in both but for the length of addresses:
//! ```text
//! forward:  about a connection that was allowed (ICMP errors): accept
//!           an answer: source in @ingress-isolated: jump ingress-answer; destination in @egress-isolated: …
//!           otherwise: source in @egress-isolated: jump egress; destination in @ingress-isolated: jump ingress
//! egress:   source and destination in @itself: return
//!           source → @egress-profiles → profile; destination → @pieces → class (then the same with @pods)
//!           profile and class, with protocol and port, in @everything, @ports or @ranges: return
//!           drop
//! ```
//! The chains for answers have the ends exchanged, so that whatever is said in a connection is judged by who began it.
//! Only forwarded packets are judged: those of the node's own processes are always let through.
//!
//! What a map gives can be a key again only by way of the packet mark, as `nft` sees it: its listing gives up on anything
//! else. The mark is put back in the same rule.

use std::net::IpAddr;

use net::nft::{
    Batch, Chain, Compare, CtKey, Expr, Family, Field, Header, Hook, MapElement, MetaKey, Nat, Reg, Set,
    Verdict,
};

use crate::model::{Direction, Element};

const NOTE: &str = "Corten network policies, layout 1";
/// Among the first of those that filter: what is not allowed need not be looked at by others.
const PRIORITY: i32 = -5;
const RELATED: u32 = 4;
const REPLY: u8 = 1;

const EVERYTHING: &str = "everything";
const PORTS: &str = "ports";
const RANGES: &str = "ranges";
const PODS: &str = "pods";
const PIECES: &str = "pieces";
const ITSELF: &str = "itself";

/// All maps and sets, in the order in which they are changed: what is led to before what leads there.
pub(crate) const OWNED: [&str; 10] = [
    EVERYTHING,
    PORTS,
    RANGES,
    PIECES,
    PODS,
    ITSELF,
    "ingress-profiles",
    "egress-profiles",
    "ingress-isolated",
    "egress-isolated",
];

fn profiles(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress-profiles",
        Direction::Egress => "egress-profiles",
    }
}

fn isolated(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress-isolated",
        Direction::Egress => "egress-isolated",
    }
}

fn chain(direction: Direction, answer: bool) -> &'static str {
    match (direction, answer) {
        (Direction::Ingress, false) => "ingress",
        (Direction::Ingress, true) => "ingress-answer",
        (Direction::Egress, false) => "egress",
        (Direction::Egress, true) => "egress-answer",
    }
}

// Registers: the four words of a key of profile, class, protocol and port; an address that is looked up; what was found.
const PROFILE: u8 = 0;
const CLASS: u8 = 1;
const PROTOCOL: u8 = 2;
const PORT: u8 = 3;
const ADDRESS: u8 = 4;
const FOUND: u8 = 14;
const MARK: u8 = 15;

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// Which end of a packet is the pod that is judged.
fn judged(direction: Direction, answer: bool) -> End {
    match (direction, answer) {
        (Direction::Ingress, false) | (Direction::Egress, true) => End::Destination,
        (Direction::Ingress, true) | (Direction::Egress, false) => End::Source,
    }
}

/// The shape for one address family.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub ipv6: bool,
    table: String,
}

impl Layout {
    pub fn new(table: &str, ipv6: bool) -> Self {
        Self { ipv6, table: table.to_owned() }
    }

    pub fn batch(&self) -> Batch {
        Batch::new(if self.ipv6 { Family::Ipv6 } else { Family::Ipv4 }, &self.table)
    }

    /// Makes the table in place of what is there, without elements.
    pub fn create(&self, batch: &mut Batch) {
        batch.add_table();
        batch.delete_table();
        batch.add_table_with_comment(NOTE);
        let address = if self.ipv6 { Field::Ipv6 } else { Field::Ipv4 };
        let (number, protocol, port) = (Field::Number, Field::Protocol, Field::Service);
        batch.add_set(&Set::new(EVERYTHING, &[number, number]));
        batch.add_set(&Set::new(PORTS, &[number, number, protocol, port]));
        batch.add_set(&Set { interval: true, ..Set::new(RANGES, &[number, number, protocol, port]) });
        // Of every protocol: two fields, because only sets of several tell the last of a range with the first.
        batch.add_set(&Set { interval: true, ..Set::map(PIECES, &[address, protocol], &[number]) });
        batch.add_set(&Set::map(PODS, &[address], &[number]));
        batch.add_set(&Set::new(ITSELF, &[address, address]));
        let directions = [Direction::Ingress, Direction::Egress];
        for direction in directions {
            batch.add_set(&Set::map(profiles(direction), &[address], &[number]));
            batch.add_set(&Set::new(isolated(direction), &[address]));
        }
        for direction in directions {
            for answer in [false, true] {
                self.judging_chain(batch, direction, answer);
            }
        }
        for answer in [false, true] {
            let name = if answer { "answers" } else { "questions" };
            batch.add_chain(&Chain { name, hook: None });
            // Who sends is judged before who is sent to; of one pod that speaks to another on this node, both are.
            for direction in [Direction::Egress, Direction::Ingress] {
                let rule = [
                    self.address(judged(direction, answer), ADDRESS),
                    in_set(isolated(direction), ADDRESS),
                    Expr::Verdict(Verdict::Jump(chain(direction, answer).to_owned())),
                ];
                batch.add_rule(name, &rule);
            }
        }
        let forward = "forward";
        batch.add_chain(&Chain { name: forward, hook: Some((Hook::Forward, PRIORITY, Nat::No)) });
        let state = [
            Expr::Ct { key: CtKey::State, to: Reg(0) },
            Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: RELATED.to_ne_bytes().to_vec() },
            Expr::Verdict(Verdict::Accept),
        ];
        batch.add_rule(forward, &state);
        let answers = [
            Expr::Ct { key: CtKey::Direction, to: Reg(0) },
            Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: vec![REPLY] },
            Expr::Verdict(Verdict::Goto("answers".to_owned())),
        ];
        batch.add_rule(forward, &answers);
        batch.add_rule(forward, &[Expr::Verdict(Verdict::Goto("questions".to_owned()))]);
    }

    fn judging_chain(&self, batch: &mut Batch, direction: Direction, answer: bool) {
        let name = chain(direction, answer);
        batch.add_chain(&Chain { name, hook: None });
        let both = [
            self.address(End::Source, ADDRESS),
            self.address(End::Destination, ADDRESS + self.words()),
            in_set(ITSELF, ADDRESS),
            Expr::Verdict(Verdict::Return),
        ];
        batch.add_rule(name, &both);
        for classes in [PIECES, PODS] {
            for set in [EVERYTHING, PORTS, RANGES] {
                batch.add_rule(name, &self.allow(direction, answer, classes, set));
            }
        }
        batch.add_rule(name, &[Expr::Counter, Expr::Verdict(Verdict::Drop)]);
    }

    /// Returns when the set has the profile of the one end with the class of the other.
    fn allow(&self, direction: Direction, answer: bool, classes: &str, set: &str) -> Vec<Expr> {
        let pod = judged(direction, answer);
        let other = if pod == End::Source { End::Destination } else { End::Source };
        let mut rule = vec![self.address(pod, ADDRESS)];
        rule.extend(find(profiles(direction), PROFILE));
        rule.push(self.address(other, ADDRESS));
        if classes == PIECES {
            rule.push(Expr::Meta { key: MetaKey::Transport, to: Reg(ADDRESS + self.words()) });
        }
        rule.extend(find(classes, CLASS));
        if set != EVERYTHING {
            // The port that the connection was opened to.
            let offset = if answer { 0 } else { 2 };
            rule.push(Expr::Meta { key: MetaKey::Transport, to: Reg(PROTOCOL) });
            rule.push(Expr::Payload { header: Header::Transport, offset, length: 2, to: Reg(PORT) });
        }
        rule.push(in_set(set, PROFILE));
        rule.push(Expr::Verdict(Verdict::Return));
        rule
    }

    /// How many registers an address takes.
    fn words(&self) -> u8 {
        if self.ipv6 { 4 } else { 1 }
    }

    fn address(&self, end: End, to: u8) -> Expr {
        let (first, length) = if self.ipv6 { (8, 16) } else { (12, 4) };
        let offset = if end == End::Source { first } else { first + length };
        Expr::Payload { header: Header::Network, offset, length, to: Reg(to) }
    }
}

fn in_set(set: &str, key: u8) -> Expr {
    Expr::InSet { set: set.to_owned(), key: Reg(key), inverted: false }
}

/// Looks up what is at [`ADDRESS`] and loads what the map has into `to`.
fn find(map: &str, to: u8) -> Vec<Expr> {
    let key = MetaKey::Mark;
    vec![
        Expr::Map { map: map.to_owned(), key: Reg(ADDRESS), to: Reg(FOUND) },
        Expr::Meta { key, to: Reg(MARK) },
        Expr::SetMeta { key, from: Reg(FOUND) },
        Expr::Meta { key, to: Reg(to) },
        Expr::SetMeta { key, from: Reg(MARK) },
    ]
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn encode(element: &Element, value: u32) -> MapElement {
    let set = |map, key| MapElement { map, key, key_end: None, data: None };
    let map = |map, key| MapElement { data: Some(value.to_ne_bytes().to_vec()), ..set(map, key) };
    match element {
        Element::Profile { direction, ip } => map(profiles(*direction), octets(*ip)),
        Element::Isolated { direction, ip } => set(isolated(*direction), octets(*ip)),
        Element::Itself { ip } => set(ITSELF, octets(*ip).repeat(2)),
        Element::Pod { ip } => map(PODS, octets(*ip)),
        Element::Piece { first, last } => {
            let bound = |ip, protocol: u8| [octets(ip), vec![protocol, 0, 0, 0]].concat();
            MapElement { key_end: Some(bound(*last, u8::MAX)), ..map(PIECES, bound(*first, 0)) }
        }
        Element::Allowed { profile, class, what, .. } => allowed(*profile, *class, *what),
    }
}

fn allowed(profile: u32, class: u32, what: crate::model::Allowance) -> MapElement {
    use crate::model::Allowance;
    let pair = [profile.to_ne_bytes(), class.to_ne_bytes()].concat();
    let with = |protocol: u8, port: u16| {
        let [high, low] = port.to_be_bytes();
        [&pair[..], &[protocol, 0, 0, 0, high, low, 0, 0]].concat()
    };
    let set = |map, key, key_end| MapElement { map, key, key_end, data: None };
    match what {
        Allowance::Everything => set(EVERYTHING, pair, None),
        Allowance::Port { protocol, port } => set(PORTS, with(protocol, port), None),
        Allowance::Range { protocol, first, last } => {
            set(RANGES, with(protocol, first), Some(with(protocol, last)))
        }
    }
}
