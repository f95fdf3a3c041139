//! A segment: a bridge of this machine, with hosts on it that are network namespaces. What several nodes on one machine
//! have in place of a switch.
//!
//! Each host is a port of the bridge: a veth pair, whose end inside is the host's `eth0` with one address (or one of each
//! family) and a default route to the bridge. What hosts send beyond the segment leaves under the machine's address. All that is made carries
//! the names given here; a host's pair goes with its namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;

use crate::error::Context;
use crate::link::{self, Veth};
use crate::netlink::{Message, Reply, Socket};
use crate::nft::{self, Batch, Chain, Compare, Expr, Family, Header, Hook, MetaKey, Nat, Nft, Reg};
use crate::{Ipv4Net, Ipv6Net, Result, netns, sysctl};

/// The end inside a host.
pub const INTERFACE: &str = "eth0";
const LOOPBACK: &str = "lo";
const SOURCE_NAT: i32 = 100;
const VETH_INFO_PEER: u16 = 1;
const IFINFO: usize = 16;
const RTMSG: usize = 12;
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
/// Interface names, with the closing NUL.
const NAME: usize = 16;

/// One segment. Nothing is made before [`Segment::create`].
#[derive(Clone, Debug)]
pub struct Segment {
    /// Of the bridge, and of the nftables table.
    pub name: String,
    /// The bridge's address and the network.
    pub gateway: Ipv4Net,
    /// The same in the other family, for hosts that have both. Beyond the segment it leads nowhere.
    pub gateway6: Option<Ipv6Net>,
}

/// The network of unique local addresses (RFC 4193) beside an IPv4 network, and an address of it.
pub fn beside(net: Ipv4Net, ip: Ipv4Addr) -> Option<Ipv6Net> {
    const PREFIX: u128 = 0xfd63_6f72_7465_6e00 << 64;
    let network = u128::from(u32::from(net.network())) << 64;
    let address = PREFIX & !(0xffff_ffff << 64) | network | u128::from(u32::from(ip));
    Ipv6Net::new(Ipv6Addr::from(address), 64).ok()
}

impl Segment {
    /// Makes the bridge, lets the machine forward for it, and masquerades what leaves. Returns whether the machine did
    /// not forward before.
    pub fn create(&self) -> Result<bool> {
        let mut socket = route_socket()?;
        let mtu = crate::route::uplink_mtu(&mut socket)?.map_or(1500, |(mtu, _)| mtu);
        let gateway = IpAddr::V4(self.gateway.addr());
        link::create_bridge(&mut socket, &self.name, link::mac_of(gateway), mtu)?;
        let index = link::index(&mut socket, &self.name)?;
        link::add_address(&mut socket, index, gateway, self.gateway.prefix_len())?;
        if let Some(gateway) = self.gateway6 {
            link::add_address(&mut socket, index, gateway.addr().into(), gateway.prefix_len())?;
        }
        self.masquerade()?;
        let forwarded = forwards();
        sysctl::set("net/ipv4/ip_forward", "1")?;
        Ok(!forwarded)
    }

    fn masquerade(&self) -> Result<()> {
        let mut batch = Batch::new(Family::Inet, &self.name);
        batch.add_table();
        let chain = "postrouting";
        batch.add_chain(&Chain { name: chain, hook: Some((Hook::Postrouting, SOURCE_NAT, Nat::Yes)) });
        let mut bridge = vec![0; NAME];
        let length = self.name.len().min(NAME - 1);
        bridge[..length].copy_from_slice(&self.name.as_bytes()[..length]);
        let rule = [
            Expr::Meta { key: MetaKey::Family, to: Reg(0) },
            Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: vec![libc::NFPROTO_IPV4 as u8] },
            Expr::Meta { key: MetaKey::InterfaceOutName, to: Reg(0) },
            Expr::Cmp { from: Reg(0), compare: Compare::NotEqual, value: bridge },
            Expr::Payload { header: Header::Network, offset: 12, length: 4, to: Reg(0) },
            Expr::Bitwise {
                from: Reg(0),
                to: Reg(0),
                mask: self.gateway.netmask().octets().to_vec(),
                xor: vec![0; 4],
            },
            Expr::Cmp {
                from: Reg(0),
                compare: Compare::Equal,
                value: self.gateway.network().octets().to_vec(),
            },
            Expr::Masquerade,
        ];
        batch.add_rule(chain, &rule);
        Nft::open()?.commit(&mut batch)
    }

    /// Makes the host whose network namespace is at `namespace` a host of this segment, by a port of that name.
    pub fn attach(&self, port: &str, namespace: &Path, ip: Ipv4Addr, ip6: Option<Ipv6Addr>) -> Result<()> {
        let file = netns::open(namespace)?;
        let mut socket = route_socket()?;
        let bridge = link::index(&mut socket, &self.name)?;
        let mtu = crate::route::uplink_mtu(&mut socket)?.map_or(1500, |(mtu, _)| mtu);
        link::create_veth(
            &mut socket,
            &Veth {
                host_name: port,
                bridge,
                pod_name: INTERFACE,
                pod_namespace: file.as_fd(),
                pod_mac: link::mac_of(ip.into()),
                mtu,
            },
        )?;
        netns::inside(&file, namespace, || self.configure(ip, ip6))
    }

    /// Runs inside the host.
    fn configure(&self, ip: Ipv4Addr, ip6: Option<Ipv6Addr>) -> Result<()> {
        let mut socket = route_socket()?;
        let index = link::index(&mut socket, INTERFACE)?;
        link::up(&mut socket, index)?;
        link::add_address(&mut socket, index, ip.into(), self.gateway.prefix_len())?;
        if let Some((ip, gateway)) = ip6.zip(self.gateway6) {
            link::add_address(&mut socket, index, ip.into(), gateway.prefix_len())?;
            default_route(&mut socket, gateway.addr().into(), index)?;
        }
        default_route(&mut socket, self.gateway.addr().into(), index)
    }

    /// Pulls the plug of a port, or puts it back.
    pub fn set_plugged(port: &str, plugged: bool) -> Result<()> {
        let mut socket = route_socket()?;
        let index = link::index(&mut socket, port)?;
        set_flags(&mut socket, index, if plugged { libc::IFF_UP as u32 } else { 0 })
            .context(if plugged { "bring up" } else { "bring down" }, port)
    }

    /// Whether the machine has a link of that name.
    pub fn exists(name: &str) -> Result<bool> {
        Ok(link::get(&mut route_socket()?, name)?.is_some())
    }

    /// Removes the bridge and the rules. What is not there is as good as removed.
    pub fn remove(&self) -> Result<()> {
        link::delete(&mut route_socket()?, &self.name)?;
        nft::remove_table(Family::Inet, &self.name)
    }
}

/// Removes a port with the interface of its host. One that is not there is as good as removed.
pub fn remove_port(port: &str) -> Result<()> {
    link::delete(&mut route_socket()?, port)
}

/// Whether this machine forwards packets of others.
fn forwards() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|value| value.trim_end() == "1")
}

/// Lets the machine forward no more, as before [`Segment::create`].
pub fn stop_forwarding() -> Result<()> {
    sysctl::set("net/ipv4/ip_forward", "0")
}

/// Brings up the loopback of the calling thread's network namespace.
pub fn loopback_up() -> Result<()> {
    let mut socket = route_socket()?;
    let index = link::index(&mut socket, LOOPBACK)?;
    link::up(&mut socket, index)
}

/// Gives the calling thread's network namespace an uplink that leads nowhere: a host that is alone has an address and a
/// default route all the same.
pub fn lonely_uplink(address: Ipv4Net, gateway: Ipv4Addr) -> Result<()> {
    const ENDS: [&str; 2] = ["uplink", "downlink"];
    let mut socket = route_socket()?;
    let mut message = Message::new(libc::RTM_NEWLINK, CREATE).raw(&[0; IFINFO]);
    message.put_str(libc::IFLA_IFNAME, ENDS[0]);
    message.nest(libc::IFLA_LINKINFO, |info| {
        info.put_str(libc::IFLA_INFO_KIND, "veth");
        info.nest(libc::IFLA_INFO_DATA, |data| {
            data.nest_raw(VETH_INFO_PEER, &[0; IFINFO], |peer| peer.put_str(libc::IFLA_IFNAME, ENDS[1]));
        });
    });
    socket.request(&mut message).context("create interface", ENDS[0])?;
    for end in ENDS {
        let index = link::index(&mut socket, end)?;
        link::up(&mut socket, index)?;
    }
    let index = link::index(&mut socket, ENDS[0])?;
    link::add_address(&mut socket, index, address.addr().into(), address.prefix_len())?;
    default_route(&mut socket, gateway.into(), index)
}

/// The IPv4 networks that this machine has routes to, but for the default route.
pub fn networks() -> Result<Vec<Ipv4Net>> {
    let mut header = [0; RTMSG];
    header[0] = libc::AF_INET as u8;
    let mut message = Message::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP as u16).raw(&header);
    let mut found = Vec::new();
    route_socket()?
        .query(&mut message, |reply| found.extend(destination(&reply)))
        .context("list", "routes")?;
    Ok(found)
}

fn destination(reply: &Reply<'_>) -> Option<Ipv4Net> {
    let prefix = *reply.body.get(1)?;
    let table = *reply.body.get(4)?;
    if reply.kind != libc::RTM_NEWROUTE || prefix == 0 || table != libc::RT_TABLE_MAIN {
        return None;
    }
    let bytes = reply.attributes(RTMSG).find_kind(libc::RTA_DST)?.payload;
    Ipv4Net::new(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?), prefix).ok()
}

fn default_route(socket: &mut Socket, gateway: IpAddr, interface: u32) -> Result<()> {
    let (family, octets, everything) = match gateway {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec(), "0.0.0.0/0"),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec(), "::/0"),
    };
    let mut header = [0; RTMSG];
    header[0] = family as u8;
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = libc::RTPROT_STATIC;
    header[6] = libc::RT_SCOPE_UNIVERSE;
    header[7] = libc::RTN_UNICAST;
    let mut message = Message::new(libc::RTM_NEWROUTE, REPLACE).raw(&header);
    message.put(libc::RTA_GATEWAY, &octets);
    message.put_u32(libc::RTA_OIF, interface);
    socket.request(&mut message).context("add route to", everything)
}

fn set_flags(
    socket: &mut Socket,
    index: u32,
    flags: u32,
) -> std::result::Result<(), crate::netlink::KernelError> {
    let mut header = [0; IFINFO];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    socket.request(&mut Message::new(libc::RTM_NEWLINK, 0).raw(&header))
}

fn route_socket() -> Result<Socket> {
    Socket::route().context("open", "a route netlink socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_has_one_of_its_own_beside_it() {
        let check = |net: &str, ip: [u8; 4], expected: &str| {
            let found = beside(net.parse().unwrap(), ip.into()).unwrap();
            assert_eq!(found, expected.parse().unwrap());
        };
        check("198.19.0.0/24", [198, 19, 0, 1], "fd63:6f72:c613::c613:1/64");
        check("198.19.7.0/24", [198, 19, 7, 2], "fd63:6f72:c613:700::c613:702/64");
    }
}
