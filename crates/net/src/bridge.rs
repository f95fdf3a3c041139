//! The pod network of one node: a bridge, and a veth pair from it into each pod.
//!
//! Pods of a node are no neighbours: each has its address alone and the gateway, and what it sends to another pod is
//! routed by the node. So service routing and network policies, which work on routed packets, see all of them, whether
//! or not the kernel shows bridged packets to its packet filter.
//!
//! Attaching is a handful of netlink messages: one makes the pair, one end a port of the bridge and the other
//! inside the pod's namespace; a few more, from a socket opened in that namespace, bring it up and give it
//! address and default route. What is attached is known from the leases on disk and from interface names made
//! from sandbox ids, so any later process finds it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::Context;
use crate::hostport::{self, HostPort, Mapping};
use crate::ipam::{self, Ipam, Lease};
use crate::link::{self, Veth};
use crate::netlink::Socket;
use crate::nft::{self, Family};
use crate::reaper::Reaper;
use crate::route::{self, Route};
use crate::rules::Rules;
use crate::source::{self, Source};
use crate::{Error, IpNet, Result, netns, qdisc, sysctl, vxlan};

/// The name of a pod's interface inside it.
const POD_INTERFACE: &str = "eth0";
const LOOPBACK_INDEX: u32 = 1;
/// IPv6 needs as much.
const MINIMUM_MTU: u32 = 1280;

/// Names and places of one node's pod network.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The bridge interface, at most 15 bytes.
    pub name: String,
    /// Where leases are kept.
    pub state_dir: PathBuf,
    /// MTU of the bridge and the pods; by default that of the link to which the default route leads, less what a
    /// tunnel to another node needs. All pods of a node have the same: a bridge drops in silence what is too large for
    /// a port.
    pub mtu: Option<u32>,
    /// Where pods go with their own address: the pod CIDRs of the whole cluster. What goes elsewhere leaves with
    /// the node's address. When empty, only the node's own pod CIDRs.
    pub cluster_cidrs: Vec<IpNet>,
    /// The nftables table that holds the masquerading rules.
    pub table: String,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            name: "cni0".to_owned(),
            state_dir: PathBuf::from("/var/lib/corten/net"),
            mtu: None,
            cluster_cidrs: Vec::new(),
            table: "corten-net".to_owned(),
        }
    }
}

/// How fast a pod may receive and send, in bits per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    pub ingress: Option<u64>,
    pub egress: Option<u64>,
}

/// What a pod got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// One address per pod CIDR, in the order of the CIDRs.
    pub ips: Vec<IpAddr>,
    /// The node's end of the pair.
    pub host_interface: String,
    /// The pod's end of the pair, inside its namespace.
    pub interface: &'static str,
}

/// One node's pod network. Every method may be called from any thread; all of them block for a moment.
pub struct Bridge {
    config: BridgeConfig,
    ipam: Mutex<Ipam>,
    /// Set by [`Bridge::set_pod_cidr`], for the veth pairs made after it.
    ready: Mutex<Option<Ready>>,
    reaper: Reaper,
    /// The host ports in the kernel, by map and key.
    host_ports: Mutex<HashMap<(&'static str, Vec<u8>), Mapping>>,
}

#[derive(Clone, Copy)]
struct Ready {
    index: u32,
    mtu: u32,
}

impl Bridge {
    /// Reads the leases. The bridge itself is made when the pod CIDR is known.
    pub fn open(config: BridgeConfig) -> Result<Self> {
        let ipam = Ipam::open(&config.name, config.state_dir.join("leases"))?;
        Ok(Self {
            config,
            ipam: Mutex::new(ipam),
            ready: Mutex::new(None),
            reaper: Reaper::default(),
            host_ports: Mutex::default(),
        })
    }

    /// Makes the bridge with its gateway addresses, lets the node forward, and masquerades what leaves the
    /// cluster. With the same CIDRs again it changes nothing; pods attached before are untouched.
    pub fn set_pod_cidr(&self, cidrs: &[IpNet]) -> Result<()> {
        let Some(first) = cidrs.first() else {
            return Err(Error::NoPodCidr { bridge: self.config.name.clone() });
        };
        let mut ready = self.ready.lock();
        let cidrs: Vec<IpNet> = cidrs.iter().map(IpNet::trunc).collect();
        if ready.is_some() && self.ipam.lock().cidrs() == cidrs {
            return Ok(());
        }
        self.ipam.lock().set_cidrs(&cidrs)?;
        let mut socket = route_socket()?;
        let (index, mtu) = self.ensure_bridge(&mut socket, ipam::gateway(*first))?;
        if cidrs.iter().any(|cidr| cidr.addr().is_ipv6()) {
            // Nobody else has the bridge's link-local address. Looking for somebody who has would keep pods without
            // IPv6 neighbours for the first seconds.
            sysctl::set(&format!("net/ipv6/conf/{}/accept_dad", self.config.name), "0")?;
        }
        self.ensure_gateways(&mut socket, index, &cidrs)?;
        for cidr in &cidrs {
            match cidr {
                IpNet::V4(_) => sysctl::set("net/ipv4/ip_forward", "1")?,
                IpNet::V6(_) => sysctl::set("net/ipv6/conf/all/forwarding", "1")?,
            }
        }
        let mut present = self.host_ports.lock();
        present.clear();
        for lease in self.ipam.lock().leases() {
            for mapping in hostport::mappings(&lease.host_ports, &lease.ips) {
                present.insert((mapping.map(), mapping.key()), mapping);
            }
        }
        self.rules(&cidrs).apply(present.values())?;
        let sources: Vec<Source> = self.ipam.lock().all().map(|(id, lease)| source_of(id, lease)).collect();
        if let Err(error) = source::apply(&self.config.table, link::mac_of(ipam::gateway(*first)), &sources) {
            // A kernel without nftables for bridges. Pods run all the same, as they do elsewhere.
            tracing::warn!(%error, "pods with NET_RAW may send with the addresses of others");
        }
        *ready = Some(Ready { index, mtu });
        Ok(())
    }

    fn ensure_bridge(&self, socket: &mut Socket, gateway: IpAddr) -> Result<(u32, u32)> {
        let name = &self.config.name;
        let mtu = match self.config.mtu {
            Some(mtu) => mtu,
            None => pod_mtu(route::uplink_mtu(socket)?),
        };
        let mac = link::mac_of(gateway);
        match link::get(socket, name)? {
            Some(found) if found.kind.as_deref() == Some("bridge") => {
                link::configure(socket, name, mac, mtu)?;
            }
            Some(_) => {
                return Err(Error::NotABridge { name: name.clone() });
            }
            None => link::create_bridge(socket, name, mac, mtu)?,
        }
        Ok((link::index(socket, name)?, mtu))
    }

    /// The gateways of `cidrs`, and of no CIDR that the node had before. Host addresses (a service address put
    /// here by [`crate::addr::ensure_local`]) stay.
    fn ensure_gateways(&self, socket: &mut Socket, index: u32, cidrs: &[IpNet]) -> Result<()> {
        let wanted: HashSet<(IpAddr, u8)> =
            cidrs.iter().map(|cidr| (ipam::gateway(*cidr), cidr.prefix_len())).collect();
        for present in link::addresses(socket, index)? {
            let host_address = present.prefix_len() == present.max_prefix_len();
            if !host_address && !wanted.contains(&(present.addr(), present.prefix_len())) {
                link::remove_address(socket, index, present)?;
            }
        }
        for (gateway, prefix) in wanted {
            link::add_address(socket, index, gateway, prefix)?;
        }
        Ok(())
    }

    /// Connects the namespace at `netns` as sandbox `id`. Doing it again for the same sandbox gives the same
    /// addresses, and makes anew what is missing.
    pub fn attach(&self, id: &str, netns: &Path) -> Result<Attachment> {
        self.try_attach(id, netns)
            .map_err(|source| Error::Sandbox { sandbox: id.to_owned(), source: Box::new(source) })
    }

    fn try_attach(&self, id: &str, path: &Path) -> Result<Attachment> {
        let ready =
            (*self.ready.lock()).ok_or_else(|| Error::NoPodCidr { bridge: self.config.name.clone() })?;
        let namespace = netns::open(path)?;
        let (lease, cidrs) = {
            let mut ipam = self.ipam.lock();
            (ipam.lease(id)?, ipam.cidrs())
        };
        let host_interface = host_interface(id);
        let mut socket = route_socket()?;
        if link::get(&mut socket, &host_interface)?.is_some() {
            // Left over from an attempt that was cut short, or attached already: the pair is made anew.
            link::delete(&mut socket, &host_interface)?;
        }
        let mac_source = lease.ips.first().copied();
        let veth = Veth {
            host_name: &host_interface,
            bridge: ready.index,
            pod_name: POD_INTERFACE,
            pod_namespace: namespace.as_fd(),
            pod_mac: link::mac_of(mac_source.unwrap_or(IpAddr::from([0, 0, 0, 0]))),
            mtu: ready.mtu,
        };
        link::create_veth(&mut socket, &veth)?;
        link::set_hairpin(&mut socket, &host_interface)?;
        unless_missing(source::add(&self.config.table, &source_of(id, &lease)))?;
        netns::inside(&namespace, path, || configure_pod(&lease, &cidrs))?;
        Ok(Attachment { ips: lease.ips, host_interface, interface: POD_INTERFACE })
    }

    fn rules<'a>(&'a self, pods: &'a [IpNet]) -> Rules<'a> {
        Rules {
            table: &self.config.table,
            bridge: &self.config.name,
            pods,
            cluster: &self.config.cluster_cidrs,
        }
    }

    /// Makes ports of the node lead to an attached sandbox, in place of those that did. They go when it is detached. A
    /// port that leads to another sandbox is taken over from it.
    pub fn set_host_ports(&self, id: &str, ports: &[HostPort]) -> Result<()> {
        let in_sandbox = |source| Error::Sandbox { sandbox: id.to_owned(), source: Box::new(source) };
        let old = self.ipam.lock().get(id).map(|lease| lease.host_ports.clone()).unwrap_or_default();
        let lease = self.ipam.lock().set_host_ports(id, ports).map_err(in_sandbox)?;
        let Some(lease) = lease else {
            return Err(in_sandbox(Error::NotAttached { bridge: self.config.name.clone() }));
        };
        let old = hostport::mappings(&old, &lease.ips);
        let new = hostport::mappings(&lease.host_ports, &lease.ips);
        self.change_host_ports(&old, &new).map_err(in_sandbox)
    }

    fn change_host_ports(&self, old: &[Mapping], new: &[Mapping]) -> Result<()> {
        if old.is_empty() && new.is_empty() {
            return Ok(());
        }
        let mut present = self.host_ports.lock();
        let place = |mapping: &Mapping| (mapping.map(), mapping.key());
        // Of the old ones those that are still this sandbox's; of the new ones what others have there.
        let ours = old.iter().filter(|mapping| present.get(&place(mapping)) == Some(*mapping));
        let taken = new.iter().filter_map(|mapping| present.get(&place(mapping)));
        let remove: HashSet<Mapping> = ours.chain(taken).cloned().collect();
        self.rules(&[]).change(&remove, new)?;
        for mapping in &remove {
            present.remove(&place(mapping));
        }
        present.extend(new.iter().map(|mapping| (place(mapping), mapping.clone())));
        Ok(())
    }

    /// Limits what an attached sandbox receives and sends, in bits per second.
    pub fn set_bandwidth(&self, id: &str, netns: &Path, limits: Bandwidth) -> Result<()> {
        let in_sandbox = |source| Error::Sandbox { sandbox: id.to_owned(), source: Box::new(source) };
        let limit = |interface: &str, bits| {
            let mut socket = route_socket()?;
            let index = link::index(&mut socket, interface)?;
            qdisc::limit(&mut socket, index, bits)
        };
        let both = || {
            if let Some(bits) = limits.ingress {
                limit(&host_interface(id), bits)?;
            }
            if let Some(bits) = limits.egress {
                netns::inside(&netns::open(netns)?, netns, || limit(POD_INTERFACE, bits))?;
            }
            Ok(())
        };
        both().map_err(in_sandbox)
    }

    /// Removes the sandbox's pair and gives its addresses back. A sandbox that is not attached is fine.
    pub fn detach(&self, id: &str) -> Result<()> {
        let in_sandbox = |source| Error::Sandbox { sandbox: id.to_owned(), source: Box::new(source) };
        let lease = self.ipam.lock().get(id).cloned();
        if let Some(lease) = &lease {
            let ports = hostport::mappings(&lease.host_ports, &lease.ips);
            self.change_host_ports(&ports, &[]).map_err(in_sandbox)?;
        }
        let mut socket = route_socket()?;
        let interface = host_interface(id);
        self.reaper.remove(&mut socket, &interface).map_err(in_sandbox)?;
        if let Some(lease) = lease {
            // Only now that nothing can be sent by it.
            unless_missing(source::remove(&self.config.table, &source_of(id, &lease))).map_err(in_sandbox)?;
        }
        self.ipam.lock().release(id).map_err(in_sandbox)
    }

    /// Detaches every sandbox that is not in `alive`: what a crash between two steps has leaked.
    pub fn retain(&self, alive: &[&str]) -> Result<()> {
        let alive: HashSet<&str> = alive.iter().copied().collect();
        let leaked: Vec<String> = {
            let ipam = self.ipam.lock();
            let leaked = ipam.sandboxes().filter(|id| !alive.contains(id));
            leaked.map(str::to_owned).collect()
        };
        leaked.iter().try_for_each(|id| self.detach(id))
    }

    /// Removes the bridge and its rules: the end of the pod network. Sandboxes are detached first.
    pub fn remove(&self) -> Result<()> {
        self.retain(&[])?;
        *self.ready.lock() = None;
        link::delete(&mut route_socket()?, &self.config.name)?;
        unless_missing(source::remove_all(&self.config.table))?;
        nft::remove_table(Family::Inet, &self.config.table)
    }

    /// The addresses of an attached sandbox.
    pub fn ips(&self, id: &str) -> Option<Vec<IpAddr>> {
        self.ipam.lock().get(id).map(|lease| lease.ips.clone())
    }
}

fn source_of(id: &str, lease: &Lease) -> Source {
    Source { port: host_interface(id), ips: lease.ips.clone() }
}

/// Where the kernel has no table of sources, there is nothing to change in it.
fn unless_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(error)
            if [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT].contains(&error.errno().unwrap_or(0)) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// What is left for pods of the MTU of a link, which has IPv6 routes only when the flag says so.
fn pod_mtu(uplink: Option<(u32, bool)>) -> u32 {
    let (mtu, ipv6) = uplink.unwrap_or((1500, false));
    mtu.saturating_sub(vxlan::overhead(ipv6)).max(MINIMUM_MTU)
}

fn route_socket() -> Result<Socket> {
    Socket::route().context("open", "a route netlink socket")
}

/// Runs inside the pod's namespace.
fn configure_pod(lease: &Lease, cidrs: &[IpNet]) -> Result<()> {
    let mut socket = route_socket()?;
    link::up(&mut socket, LOOPBACK_INDEX)?;
    let interface = link::index(&mut socket, POD_INTERFACE)?;
    link::up(&mut socket, interface)?;
    // The gateway sends packets back by the interface that they came from, and would like to tell of a shorter way.
    for who in ["all", POD_INTERFACE] {
        sysctl::set(&format!("net/ipv4/conf/{who}/accept_redirects"), "0")?;
    }
    for ip in &lease.ips {
        // A lease from a CIDR that the node no longer has reaches nobody; it is replaced with its pod.
        let Some(cidr) = cidrs.iter().find(|cidr| cidr.contains(ip)) else {
            continue;
        };
        let alone = IpNet::from(*ip).prefix_len();
        link::add_address(&mut socket, interface, *ip, alone)?;
        let everywhere = if ip.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let to = everywhere.parse().unwrap_or(*cidr);
        let gateway = ipam::gateway(*cidr);
        route::replace(&mut socket, &Route::fixed(IpNet::from(gateway), None, interface))?;
        route::replace(&mut socket, &Route::fixed(to, Some(gateway), interface))?;
        if ip.is_ipv6() {
            sysctl::set(&format!("net/ipv6/conf/{POD_INTERFACE}/accept_redirects"), "0")?;
        }
    }
    Ok(())
}

/// The node's end of a sandbox's pair: known from the id alone, so that detaching needs no record.
fn host_interface(id: &str) -> String {
    // FNV-1a, 44 bits of it: the name has room for eleven digits, and a clash among a node's few hundred pods
    // is out of the question.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("veth{:011x}", hash >> 20)
}
