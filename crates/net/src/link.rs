//! Links and addresses by route netlink; routes are in [`crate::route`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::Context;
use crate::netlink::{Attributes, KernelError, Message, Reply, Socket};
use crate::{Error, IpNet, Result};

pub(crate) const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
pub(crate) const REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
pub(crate) const UP: u32 = libc::IFF_UP as u32;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
pub(crate) const IFINFO: usize = 16;
const IFADDR: usize = 8;

/// What [`get`] tells about a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub mtu: u32,
    pub up: bool,
    pub kind: Option<String>,
}

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// A locally administered address made from an IP address: a reused IP keeps its MAC, so no neighbour cache
/// is ever wrong.
pub(crate) fn mac_of(ip: IpAddr) -> Mac {
    let last = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
    };
    [0x0a, 0x58, last[0], last[1], last[2], last[3]]
}

/// `struct ifinfomsg`.
pub(crate) fn ifinfo(family: i32, index: u32, flags: u32, change: u32) -> [u8; IFINFO] {
    let mut header = [0; IFINFO];
    header[0] = family as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

pub(crate) fn ip_from(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// The link of that name, if there is one.
pub(crate) fn get(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut message = Message::new(libc::RTM_GETLINK, 0).raw(&ifinfo(libc::AF_UNSPEC, 0, 0, 0));
    message.put_str(libc::IFLA_IFNAME, name);
    query_link(socket, &mut message).context("look up interface", name)
}

pub(crate) fn get_index(socket: &mut Socket, index: u32) -> std::result::Result<Option<Link>, KernelError> {
    let mut message = Message::new(libc::RTM_GETLINK, 0).raw(&ifinfo(libc::AF_UNSPEC, index, 0, 0));
    query_link(socket, &mut message)
}

fn query_link(socket: &mut Socket, message: &mut Message) -> std::result::Result<Option<Link>, KernelError> {
    let mut link = None;
    match socket.query(message, |reply| link = parse_link(&reply).or(link.take())) {
        Ok(()) => Ok(link),
        Err(error) if error.errno == libc::ENODEV => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn parse_link(reply: &Reply<'_>) -> Option<Link> {
    if reply.kind != libc::RTM_NEWLINK {
        return None;
    }
    let index = u32::from_ne_bytes(reply.body.get(4..8)?.try_into().ok()?);
    let flags = u32::from_ne_bytes(reply.body.get(8..12)?.try_into().ok()?);
    let attributes = reply.attributes(IFINFO);
    let info = attributes.find_kind(libc::IFLA_LINKINFO);
    let kind = info.and_then(|info| info.nested().find_kind(libc::IFLA_INFO_KIND));
    Some(Link {
        index,
        up: flags & UP != 0,
        mtu: attributes.find_kind(libc::IFLA_MTU)?.u32()?,
        kind: kind.and_then(|kind| kind.str()).map(str::to_owned),
    })
}

/// The index of a link that must exist.
pub(crate) fn index(socket: &mut Socket, name: &str) -> Result<u32> {
    match get(socket, name)? {
        Some(link) => Ok(link.index),
        None => Err(Error::NoInterface { name: name.to_owned() }),
    }
}

/// Makes a bridge, up, with a fixed address (else it would take the lowest of its ports and change).
pub(crate) fn create_bridge(socket: &mut Socket, name: &str, mac: Mac, mtu: u32) -> Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, CREATE).raw(&ifinfo(libc::AF_UNSPEC, 0, UP, UP));
    message.put_str(libc::IFLA_IFNAME, name);
    message.put(libc::IFLA_ADDRESS, &mac);
    message.put_u32(libc::IFLA_MTU, mtu);
    message.nest(libc::IFLA_LINKINFO, |info| {
        info.put_str(libc::IFLA_INFO_KIND, "bridge");
    });
    socket.request(&mut message).context("create bridge", name)
}

/// Sets address and MTU of a link and brings it up.
pub(crate) fn configure(socket: &mut Socket, name: &str, mac: Mac, mtu: u32) -> Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0).raw(&ifinfo(libc::AF_UNSPEC, 0, UP, UP));
    message.put_str(libc::IFLA_IFNAME, name);
    message.put(libc::IFLA_ADDRESS, &mac);
    message.put_u32(libc::IFLA_MTU, mtu);
    socket.request(&mut message).context("configure interface", name)
}

/// Brings a link up by index.
pub(crate) fn up(socket: &mut Socket, index: u32) -> Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0).raw(&ifinfo(libc::AF_UNSPEC, index, UP, UP));
    let object = format!("interface {index}");
    socket.request(&mut message).context("bring up", object)
}

/// A veth pair to be made, in one message: one end a port of the bridge, the other in the pod.
pub(crate) struct Veth<'a> {
    pub host_name: &'a str,
    pub bridge: u32,
    pub pod_name: &'a str,
    pub pod_namespace: BorrowedFd<'a>,
    pub pod_mac: Mac,
    pub mtu: u32,
}

/// Makes the pair, the node's end up.
pub(crate) fn create_veth(socket: &mut Socket, veth: &Veth<'_>) -> Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, CREATE).raw(&ifinfo(libc::AF_UNSPEC, 0, UP, UP));
    message.put_str(libc::IFLA_IFNAME, veth.host_name);
    message.put_u32(libc::IFLA_MTU, veth.mtu);
    message.put_u32(libc::IFLA_MASTER, veth.bridge);
    message.nest(libc::IFLA_LINKINFO, |info| {
        info.put_str(libc::IFLA_INFO_KIND, "veth");
        info.nest(libc::IFLA_INFO_DATA, |data| {
            // It cannot be made up: at that moment it has no peer yet.
            let header = ifinfo(libc::AF_UNSPEC, 0, 0, 0);
            data.nest_raw(VETH_INFO_PEER, &header, |peer| {
                peer.put_str(libc::IFLA_IFNAME, veth.pod_name);
                peer.put_u32(libc::IFLA_MTU, veth.mtu);
                peer.put(libc::IFLA_ADDRESS, &veth.pod_mac);
                peer.put_u32(libc::IFLA_NET_NS_FD, veth.pod_namespace.as_raw_fd() as u32);
            });
        });
    });
    socket.request(&mut message).context("create interface", veth.host_name)
}

/// Lets a bridge port send a frame back to where it came from.
pub(crate) fn set_hairpin(socket: &mut Socket, name: &str) -> Result<()> {
    let port = index(socket, name)?;
    let mut message = Message::new(libc::RTM_SETLINK, 0).raw(&ifinfo(libc::AF_BRIDGE, port, 0, 0));
    message.nest(libc::IFLA_PROTINFO, |port| port.put(IFLA_BRPORT_MODE, &[1]));
    socket.request(&mut message).context("set hairpin mode of", name)
}

/// Removes a link; one that is not there is as good as removed.
pub(crate) fn delete(socket: &mut Socket, name: &str) -> Result<()> {
    let mut message = Message::new(libc::RTM_DELLINK, 0).raw(&ifinfo(libc::AF_UNSPEC, 0, 0, 0));
    message.put_str(libc::IFLA_IFNAME, name);
    match socket.request(&mut message) {
        Err(error) if error.errno == libc::ENODEV => Ok(()),
        result => result.context("delete interface", name),
    }
}

/// Puts a link into a group; false when there is no such link.
pub(crate) fn set_group(socket: &mut Socket, name: &str, group: u32) -> Result<bool> {
    let mut message = Message::new(libc::RTM_SETLINK, 0).raw(&ifinfo(libc::AF_UNSPEC, 0, 0, 0));
    message.put_str(libc::IFLA_IFNAME, name);
    message.put_u32(libc::IFLA_GROUP, group);
    match socket.request(&mut message) {
        Err(error) if error.errno == libc::ENODEV => Ok(false),
        result => result.context("set the group of interface", name).map(|()| true),
    }
}

/// Removes all links of a group; an empty group is as good as removed.
pub(crate) fn delete_group(socket: &mut Socket, group: u32) -> Result<()> {
    let mut message = Message::new(libc::RTM_DELLINK, 0).raw(&ifinfo(libc::AF_UNSPEC, 0, 0, 0));
    message.put_u32(libc::IFLA_GROUP, group);
    match socket.request(&mut message) {
        Err(error) if error.errno == libc::ENODEV => Ok(()),
        result => result.context("delete interface group", group.to_string()),
    }
}

fn ifaddr(ip: IpAddr, prefix: u8, index: u32) -> [u8; IFADDR] {
    let mut header = [0; IFADDR];
    header[0] = family(ip);
    header[1] = prefix;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// Gives a link an address, usable at once (no duplicate address detection: the address is ours by lease).
pub(crate) fn add_address(socket: &mut Socket, index: u32, ip: IpAddr, prefix: u8) -> Result<()> {
    let mut message = Message::new(libc::RTM_NEWADDR, REPLACE).raw(&ifaddr(ip, prefix, index));
    message.put(libc::IFA_LOCAL, &octets(ip));
    message.put(libc::IFA_ADDRESS, &octets(ip));
    if ip.is_ipv6() {
        message.put_u32(IFA_FLAGS, IFA_F_NODAD);
    }
    let object = format!("{ip}/{prefix} to interface {index}");
    socket.request(&mut message).context("add address", object)
}

/// Takes an address away; one that is not there is as good as removed.
pub(crate) fn remove_address(socket: &mut Socket, index: u32, net: IpNet) -> Result<()> {
    let mut message = Message::new(libc::RTM_DELADDR, 0).raw(&ifaddr(net.addr(), net.prefix_len(), index));
    message.put(libc::IFA_LOCAL, &octets(net.addr()));
    match socket.request(&mut message) {
        Err(error) if error.errno == libc::EADDRNOTAVAIL => Ok(()),
        result => result.context("remove address", format!("{net} from interface {index}")),
    }
}

/// The addresses of a link, without the link-local ones.
pub(crate) fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<IpNet>> {
    let found = dump_addresses(socket, index).context("list addresses of", format!("interface {index}"))?;
    Ok(found.into_iter().filter(|(link, _)| *link == index).map(|(_, net)| net).collect())
}

/// The addresses of all links, each with the index of its link, without the link-local ones.
pub(crate) fn all_addresses(socket: &mut Socket) -> Result<Vec<(u32, IpNet)>> {
    dump_addresses(socket, 0).context("list", "addresses")
}

fn dump_addresses(socket: &mut Socket, index: u32) -> std::result::Result<Vec<(u32, IpNet)>, KernelError> {
    // The family is left unspecified: both are asked for.
    let mut header = [0; IFADDR];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16).raw(&header);
    let mut found = Vec::new();
    socket.query(&mut message, |reply| found.extend(parse_address(&reply)))?;
    Ok(found)
}

pub(crate) fn parse_address(reply: &Reply<'_>) -> Option<(u32, IpNet)> {
    let index = u32::from_ne_bytes(reply.body.get(4..8)?.try_into().ok()?);
    if reply.kind != libc::RTM_NEWADDR {
        return None;
    }
    let attributes: Attributes<'_> = reply.attributes(IFADDR);
    let address =
        attributes.find_kind(libc::IFA_LOCAL).or_else(|| attributes.find_kind(libc::IFA_ADDRESS))?;
    let net = IpNet::new(ip_from(address.payload)?, *reply.body.get(1)?).ok()?;
    match net {
        IpNet::V6(net) if net.addr().is_unicast_link_local() => None,
        net => Some((index, net)),
    }
}
