//! Nodes joined: from this node to the pods of every other one.
//!
//! A node on a shared link is the gateway to its pods; to any other their packets go through a VXLAN tunnel. Which it
//! is is found per node and address family, from the addresses of this machine. Routes carry a number of their maker,
//! and the tunnel device a name: what carries neither is not ours and stays. [`Mesh::join`] compares what is with what
//! should be and changes only that, so a restart changes nothing.

mod plan;

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use crate::error::Context;
use crate::link;
use crate::neighbour::{self, Neighbour};
use crate::netlink::Socket;
use crate::route::{self, Route};
use crate::vxlan::{self, Device};
use crate::{Error, IpNet, Result, sysctl};
use plan::{Plan, Way, plan, tunnel_mac};

/// The number of routes that this module makes, among those that nobody has been given.
const PROTOCOL: u8 = 114;
/// Tunnels must carry what IPv6 needs.
const MINIMUM_MTU: u32 = 1280;

/// A node, as the others must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// Where other nodes reach it; the first is the end of its tunnels.
    pub addresses: Vec<IpAddr>,
    pub pod_cidrs: Vec<IpNet>,
}

/// When tunnels are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// To nodes that are on no link of this one.
    #[default]
    Auto,
    /// To all: where the network between nodes drops packets with addresses that it does not know.
    Tunnel,
}

/// Names and numbers that all nodes of a cluster must agree on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The tunnel device, at most 15 bytes.
    pub device: String,
    pub vni: u32,
    pub port: u16,
    pub mode: Mode,
}

impl Default for Config {
    fn default() -> Self {
        Self { device: "corten-vx".to_owned(), vni: 49_278, port: 4789, mode: Mode::Auto }
    }
}

/// Why pods of a node cannot be reached.
#[derive(Debug, PartialEq, Eq, Clone, thiserror::Error)]
pub enum Problem {
    #[error(
        "node {node}: its pod CIDR {cidr} overlaps {other} of node {holder}; \
         delete the Node that is wrong, so that it registers again and is given another"
    )]
    Clash { node: String, cidr: IpNet, other: IpNet, holder: String },
    #[error(
        "node {node}: its pod CIDR {cidr} holds the address {address} of node {holder}; \
         choose another cluster CIDR for pods"
    )]
    HoldsNode { node: String, cidr: IpNet, address: IpAddr, holder: String },
    #[error(
        "node {node}: there is no way to its pods in {cidr}; it must have an InternalIP on a link of this node, or one \
         of the family of this node's first InternalIP, which must be an address of this machine"
    )]
    Unreachable { node: String, cidr: IpNet },
    #[error("there is a route to {cidr} that Corten did not make; remove it, for it belongs to node {node}")]
    ForeignRoute { node: String, cidr: IpNet },
    /// It may go better later.
    #[error("{0}")]
    Kernel(String),
}

/// What [`Mesh::join`] has come to.
#[derive(Debug, Default)]
pub struct Joined {
    pub problems: Vec<Problem>,
    /// The interfaces that routes go by. When one of them goes down the kernel drops its routes.
    pub interfaces: HashSet<u32>,
    /// How many routes, addresses and neighbours were added or removed.
    pub changes: usize,
}

/// This node's ways to all others.
pub struct Mesh {
    config: Config,
}

impl Mesh {
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Makes ways to the pods of all `peers`, and removes those to nodes that are not among them. What one node makes
    /// impossible does not harm the others.
    pub fn join(&self, own: &Node, peers: &[Node]) -> Result<Joined> {
        for cidr in &own.pod_cidrs {
            match cidr {
                IpNet::V4(_) => sysctl::set("net/ipv4/ip_forward", "1")?,
                IpNet::V6(_) => sysctl::set("net/ipv6/conf/all/forwarding", "1")?,
            }
        }
        let mut socket = route_socket()?;
        let mut addresses = link::all_addresses(&mut socket)?;
        let device = link::get(&mut socket, &self.config.device)?;
        addresses.retain(|(interface, _)| device.as_ref().is_none_or(|device| device.index != *interface));
        let plan = plan(own, peers, &addresses, self.config.mode);
        let mut joined = Joined { problems: plan.problems.clone(), ..Joined::default() };
        let tunnel = match self.tunnel(&mut socket, &plan, &mut joined) {
            Ok(tunnel) => tunnel,
            Err(error) => {
                joined.problems.push(Problem::Kernel(error.to_string()));
                None
            }
        };
        let holder = |cidr: &IpNet| {
            let node = peers.iter().find(|peer| peer.pod_cidrs.iter().any(|c| c.trunc() == *cidr));
            node.map(|node| node.name.clone()).unwrap_or_default()
        };
        change_routes(&mut socket, &plan, tunnel, &mut joined, holder)?;
        if let Some(device) = tunnel {
            let wanted = &plan.neighbours;
            let unwanted = neighbour::list(&mut socket, device)?.into_iter().filter(|n| !wanted.contains(n));
            for stale in unwanted {
                neighbour::remove(&mut socket, device, &stale)?;
                joined.changes += 1;
            }
        } else if plan.neighbours.is_empty() {
            self.remove_device(&mut socket)?;
        }
        Ok(joined)
    }

    /// The tunnel device with all that is to be reached through it, if anything is.
    fn tunnel(&self, socket: &mut Socket, plan: &Plan, joined: &mut Joined) -> Result<Option<u32>> {
        let Some((local, underlay)) = plan.local.filter(|_| !plan.neighbours.is_empty()) else {
            return Ok(None);
        };
        let name = &self.config.device;
        let underlay =
            link::get_index(socket, underlay).context("look up interface", underlay.to_string())?;
        let mtu = underlay.map_or(1500, |link| link.mtu).saturating_sub(vxlan::overhead(local.is_ipv6()));
        let device = Device {
            name,
            vni: self.config.vni,
            port: self.config.port,
            local,
            mac: tunnel_mac(local),
            mtu: mtu.max(MINIMUM_MTU),
        };
        let index = vxlan::ensure(socket, &device)?;
        // The way back may be another, while a node has learned of a shared link that the other has not.
        sysctl::set(&format!("net/ipv4/conf/{name}/rp_filter"), "2")?;
        let present = link::addresses(socket, index)?;
        for address in plan.tunnel_addresses.iter().filter(|address| !present.contains(address)) {
            link::add_address(socket, index, address.addr(), address.prefix_len())?;
            joined.changes += 1;
        }
        for stale in present.iter().filter(|address| !plan.tunnel_addresses.contains(address)) {
            link::remove_address(socket, index, *stale)?;
            joined.changes += 1;
        }
        let present: BTreeSet<Neighbour> = neighbour::list(socket, index)?.into_iter().collect();
        for missing in plan.neighbours.difference(&present) {
            neighbour::replace(socket, index, missing)?;
            joined.changes += 1;
        }
        Ok(Some(index))
    }

    /// Takes back everything: the routes and the tunnel device.
    pub fn remove(&self) -> Result<()> {
        let mut socket = route_socket()?;
        for stale in route::made_by(&mut socket, PROTOCOL)? {
            route::remove(&mut socket, &stale)?;
        }
        self.remove_device(&mut socket)
    }

    fn remove_device(&self, socket: &mut Socket) -> Result<()> {
        match link::get(socket, &self.config.device)? {
            Some(found) if found.kind.as_deref() == Some("vxlan") => {
                link::delete(socket, &self.config.device)
            }
            _ => Ok(()),
        }
    }
}

fn change_routes(
    socket: &mut Socket,
    plan: &Plan,
    tunnel: Option<u32>,
    joined: &mut Joined,
    holder: impl Fn(&IpNet) -> String,
) -> Result<()> {
    let present = route::made_by(socket, PROTOCOL)?;
    let mut wanted = HashSet::new();
    for (to, way) in &plan.ways {
        let (gateway, interface, onlink) = match *way {
            Way::Link { gateway, interface } => (gateway, interface, false),
            Way::Tunnel { gateway } => match tunnel {
                Some(tunnel) => (gateway, tunnel, true),
                None => continue,
            },
        };
        wanted.insert(*to);
        joined.interfaces.insert(interface);
        let route = Route { to: *to, gateway: Some(gateway), interface, onlink, protocol: PROTOCOL };
        let outcome = match present.iter().find(|route| route.to == *to) {
            Some(there) if there.gateway == route.gateway && there.interface == interface => continue,
            Some(_) => route::replace(socket, &route).map(|()| true),
            None => route::add(socket, &route),
        };
        match outcome {
            Ok(true) => joined.changes += 1,
            Ok(false) => joined.problems.push(Problem::ForeignRoute { node: holder(to), cidr: *to }),
            Err(error @ Error::Kernel { .. }) => joined.problems.push(Problem::Kernel(error.to_string())),
            Err(error) => return Err(error),
        }
    }
    for stale in present.iter().filter(|route| !wanted.contains(&route.to)) {
        route::remove(socket, stale)?;
        joined.changes += 1;
    }
    Ok(())
}

fn route_socket() -> Result<Socket> {
    Socket::route().context("open", "a route netlink socket")
}
