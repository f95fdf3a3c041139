//! Neighbours: which Ethernet address an IP address has, and behind which tunnel endpoint an Ethernet address is.

use std::net::IpAddr;

use crate::Result;
use crate::error::Context;
use crate::link::{Mac, REPLACE, family, ip_from, octets};
use crate::netlink::{Message, Reply, Socket};

const NDMSG: usize = 12;

/// A permanent entry of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Neighbour {
    /// The IP address has this Ethernet address.
    Address(IpAddr, Mac),
    /// What goes to this Ethernet address is sent to that tunnel endpoint.
    Endpoint(Mac, IpAddr),
}

impl Neighbour {
    fn message(&self, operation: u16, flags: u16, link: u32) -> Message {
        let (kind, entry_flags, ip, mac) = match self {
            Self::Address(ip, mac) => (family(*ip), 0, ip, mac),
            Self::Endpoint(mac, ip) => (libc::AF_BRIDGE as u8, libc::NTF_SELF, ip, mac),
        };
        let mut header = [0; NDMSG];
        header[0] = kind;
        header[4..8].copy_from_slice(&link.to_ne_bytes());
        header[8..10].copy_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
        header[10] = entry_flags;
        let mut message = Message::new(operation, flags).raw(&header);
        message.put(libc::NDA_DST, &octets(*ip));
        message.put(libc::NDA_LLADDR, mac);
        message
    }

    fn object(&self, link: u32) -> String {
        match self {
            Self::Address(ip, _) => format!("{ip} on interface {link}"),
            Self::Endpoint(_, ip) => format!("tunnel endpoint {ip} on interface {link}"),
        }
    }
}

/// Makes an entry, or changes the one with the same key.
pub(crate) fn replace(socket: &mut Socket, link: u32, neighbour: &Neighbour) -> Result<()> {
    let mut message = neighbour.message(libc::RTM_NEWNEIGH, REPLACE, link);
    socket.request(&mut message).context("add neighbour", neighbour.object(link))
}

/// Removes an entry; one that is not there is as good as removed.
pub(crate) fn remove(socket: &mut Socket, link: u32, neighbour: &Neighbour) -> Result<()> {
    let mut message = neighbour.message(libc::RTM_DELNEIGH, 0, link);
    match socket.request(&mut message) {
        Err(error) if error.errno == libc::ENOENT => Ok(()),
        result => result.context("remove neighbour", neighbour.object(link)),
    }
}

/// The permanent entries of a link.
pub(crate) fn list(socket: &mut Socket, link: u32) -> Result<Vec<Neighbour>> {
    let mut found = Vec::new();
    for kind in [libc::AF_INET, libc::AF_INET6, libc::AF_BRIDGE] {
        let mut header = [0; NDMSG];
        header[0] = kind as u8;
        let mut message = Message::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP as u16).raw(&header);
        message.put_u32(libc::NDA_IFINDEX, link);
        socket
            .query(&mut message, |reply| found.extend(parse(&reply, link)))
            .context("list neighbours of", format!("interface {link}"))?;
    }
    Ok(found)
}

pub(crate) fn parse(reply: &Reply<'_>, wanted: u32) -> Option<Neighbour> {
    let header = reply.body.get(..NDMSG)?;
    let link = u32::from_ne_bytes(header[4..8].try_into().ok()?);
    let state = u16::from_ne_bytes([header[8], header[9]]);
    if reply.kind != libc::RTM_NEWNEIGH || link != wanted || state & libc::NUD_PERMANENT == 0 {
        return None;
    }
    let attributes = reply.attributes(NDMSG);
    let ip = ip_from(attributes.find_kind(libc::NDA_DST)?.payload)?;
    let mac = Mac::try_from(attributes.find_kind(libc::NDA_LLADDR)?.payload).ok()?;
    let of_bridge = i32::from(header[0]) == libc::AF_BRIDGE;
    Some(if of_bridge { Neighbour::Endpoint(mac, ip) } else { Neighbour::Address(ip, mac) })
}
