//! Which way to each other node's pods: a pure function of the nodes and this machine's addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use super::{Mode, Node, Problem};
use crate::IpNet;
use crate::link::Mac;
use crate::neighbour::Neighbour;

/// How to reach a pod CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Its node is on a link of this one.
    Link { gateway: IpAddr, interface: u32 },
    /// Through the tunnel device.
    Tunnel { gateway: IpAddr },
}

/// What the kernel must hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub ways: BTreeMap<IpNet, Way>,
    /// Entries of the tunnel device, which is needed only when there are any.
    pub neighbours: BTreeSet<Neighbour>,
    /// The tunnel device's own addresses: what this node's processes speak to pods with.
    pub tunnel_addresses: Vec<IpNet>,
    /// This node's end of tunnels, and the interface that has it.
    pub local: Option<(IpAddr, u32)>,
    pub problems: Vec<Problem>,
}

/// Plans the ways from `own` to `peers`; `addresses` are those of this machine, with their interfaces.
pub(super) fn plan(own: &Node, peers: &[Node], addresses: &[(u32, IpNet)], mode: Mode) -> Plan {
    let mut plan = Plan::default();
    let holds = |ip: &IpAddr| addresses.iter().find(|(_, net)| net.addr() == *ip);
    plan.local = own.addresses.iter().find_map(|ip| Some((*ip, holds(ip)?.0)));
    plan.tunnel_addresses = own.pod_cidrs.iter().map(|cidr| IpNet::from(cidr.network())).collect();
    // By name, so that of two that clash always the same one is heard; this node before all.
    let mut peers: Vec<&Node> = peers.iter().filter(|peer| peer.name != own.name).collect();
    peers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut taken: Vec<(IpNet, &str)> = own.pod_cidrs.iter().map(|cidr| (cidr.trunc(), &*own.name)).collect();
    let everybody: Vec<&Node> = std::iter::once(own).chain(peers.iter().copied()).collect();
    for peer in peers {
        for cidr in peer.pod_cidrs.iter().map(IpNet::trunc) {
            if let Some(problem) = objection(peer, cidr, &taken, &everybody) {
                plan.problems.push(problem);
                continue;
            }
            taken.push((cidr, &peer.name));
            add_way(&mut plan, peer, cidr, addresses, mode);
        }
    }
    plan
}

/// Why `cidr` is not to be believed.
fn objection(peer: &Node, cidr: IpNet, taken: &[(IpNet, &str)], everybody: &[&Node]) -> Option<Problem> {
    let node = || peer.name.clone();
    let overlaps = |(other, _): &&(IpNet, &str)| other.contains(&cidr) || cidr.contains(other);
    if let Some((other, holder)) = taken.iter().find(overlaps) {
        return Some(Problem::Clash { node: node(), cidr, other: *other, holder: (*holder).to_owned() });
    }
    everybody.iter().find_map(|holder| {
        let address = *holder.addresses.iter().find(|ip| cidr.contains(*ip))?;
        Some(Problem::HoldsNode { node: node(), cidr, address, holder: holder.name.clone() })
    })
}

fn add_way(plan: &mut Plan, peer: &Node, cidr: IpNet, addresses: &[(u32, IpNet)], mode: Mode) {
    if mode == Mode::Auto
        && let Some(way) = shared_link(peer, cidr.addr().is_ipv6(), addresses)
    {
        plan.ways.insert(cidr, way);
        return;
    }
    let remote = plan.local.and_then(|(local, _)| {
        peer.addresses.iter().copied().find(|ip| ip.is_ipv6() == local.is_ipv6() && *ip != local)
    });
    let Some(remote) = remote else {
        plan.problems.push(Problem::Unreachable { node: peer.name.clone(), cidr });
        return;
    };
    let mac = tunnel_mac(remote);
    let gateway = match cidr {
        IpNet::V4(net) => net.network().into(),
        IpNet::V6(_) => link_local(mac).into(),
    };
    plan.neighbours.insert(Neighbour::Endpoint(mac, remote));
    plan.neighbours.insert(Neighbour::Address(gateway, mac));
    plan.ways.insert(cidr, Way::Tunnel { gateway });
}

/// The interface of which one of the node's addresses is a neighbour; of several the one with the smallest network.
fn shared_link(peer: &Node, ipv6: bool, addresses: &[(u32, IpNet)]) -> Option<Way> {
    let same_family = peer.addresses.iter().copied().filter(|ip| ip.is_ipv6() == ipv6);
    let found = same_family.flat_map(|ip| {
        let on_link = move |(_, net): &&(u32, IpNet)| net.contains(&ip) && net.addr() != ip;
        addresses.iter().filter(on_link).map(move |(interface, net)| (net.prefix_len(), ip, *interface))
    });
    let (_, gateway, interface) = found.max_by_key(|(prefix, ip, _)| (*prefix, std::cmp::Reverse(*ip)))?;
    Some(Way::Link { gateway, interface })
}

/// The Ethernet address of a node's end of tunnels: known from its address, so that nobody has to be told.
pub(super) fn tunnel_mac(ip: IpAddr) -> Mac {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [0x0a, 0x76, a, b, c, d]
        }
        IpAddr::V6(ip) => {
            // FNV-1a, 40 bits of it: enough to tell thousands of nodes apart.
            let hash = ip.octets().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            let [a, b, c, d, e, ..] = hash.to_be_bytes();
            [0x0e, a, b, c, d, e]
        }
    }
}

/// The link-local address of an Ethernet address (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests;
