//! Routes of the main table by route netlink.

use std::net::IpAddr;

use crate::error::Context;
use crate::link::{self, CREATE, REPLACE, family, ip_from, octets};
use crate::netlink::{Message, Reply, Socket};
use crate::{IpNet, Result};

const RTMSG: usize = 12;
/// The gateway needs no route of its own.
const RTNH_F_ONLINK: u32 = 4;

/// A route in the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub to: IpNet,
    pub gateway: Option<IpAddr>,
    pub interface: u32,
    /// The gateway is on the interface's link, whatever addresses that has.
    pub onlink: bool,
    /// Who made it: one of `RTPROT_*`, or a number of one's own.
    pub protocol: u8,
}

impl Route {
    /// A route of the node's own set-up.
    pub fn fixed(to: IpNet, gateway: Option<IpAddr>, interface: u32) -> Self {
        Self { to, gateway, interface, onlink: false, protocol: libc::RTPROT_STATIC }
    }

    fn message(&self, operation: u16, flags: u16) -> Message {
        let mut header = [0; RTMSG];
        header[0] = family(self.to.addr());
        header[1] = self.to.prefix_len();
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = self.protocol;
        header[6] = match self.gateway {
            None if self.to.addr().is_ipv4() => libc::RT_SCOPE_LINK,
            _ => libc::RT_SCOPE_UNIVERSE,
        };
        header[7] = libc::RTN_UNICAST;
        if self.onlink {
            header[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
        }
        let mut message = Message::new(operation, flags).raw(&header);
        if self.to.prefix_len() > 0 {
            message.put(libc::RTA_DST, &octets(self.to.network()));
        }
        if let Some(gateway) = self.gateway {
            message.put(libc::RTA_GATEWAY, &octets(gateway));
        }
        message.put_u32(libc::RTA_OIF, self.interface);
        message
    }
}

/// Makes a route, or changes the one to the same destination.
pub(crate) fn replace(socket: &mut Socket, route: &Route) -> Result<()> {
    let mut message = route.message(libc::RTM_NEWROUTE, REPLACE);
    socket.request(&mut message).context("add route to", route.to.to_string())
}

/// Makes a route; false when there is one to the same destination, which stays as it is.
pub(crate) fn add(socket: &mut Socket, route: &Route) -> Result<bool> {
    let mut message = route.message(libc::RTM_NEWROUTE, CREATE);
    match socket.request(&mut message) {
        Err(error) if error.errno == libc::EEXIST => Ok(false),
        result => result.context("add route to", route.to.to_string()).map(|()| true),
    }
}

/// Removes a route; one that is not there is as good as removed.
pub(crate) fn remove(socket: &mut Socket, route: &Route) -> Result<()> {
    let mut message = route.message(libc::RTM_DELROUTE, 0);
    match socket.request(&mut message) {
        Err(error) if error.errno == libc::ESRCH => Ok(()),
        result => result.context("remove route to", route.to.to_string()),
    }
}

/// The routes that carry this number of their maker, of both families.
pub(crate) fn made_by(socket: &mut Socket, protocol: u8) -> Result<Vec<Route>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut header = [0; RTMSG];
        header[0] = family as u8;
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = protocol;
        let mut message = Message::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP as u16).raw(&header);
        let each = |reply: Reply<'_>| found.extend(parse(&reply).filter(|route| route.protocol == protocol));
        match socket.query(&mut message, each) {
            // The kernel has no such table yet, or no such family.
            Err(error) if matches!(error.errno, libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {}
            result => result.context("list", "routes")?,
        }
    }
    Ok(found)
}

pub(crate) fn parse(reply: &Reply<'_>) -> Option<Route> {
    let header = reply.body.get(..RTMSG)?;
    if reply.kind != libc::RTM_NEWROUTE || header[4] != libc::RT_TABLE_MAIN || header[7] != libc::RTN_UNICAST
    {
        return None;
    }
    let attributes = reply.attributes(RTMSG);
    let ip = |kind| attributes.find_kind(kind).and_then(|attribute| ip_from(attribute.payload));
    let to = match ip(libc::RTA_DST) {
        Some(ip) => ip,
        None if i32::from(header[0]) == libc::AF_INET => [0u8; 4].into(),
        None => [0u8; 16].into(),
    };
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    Some(Route {
        to: IpNet::new(to, header[1]).ok()?,
        gateway: ip(libc::RTA_GATEWAY),
        interface: attributes.find_kind(libc::RTA_OIF)?.u32()?,
        onlink: flags & RTNH_F_ONLINK != 0,
        protocol: header[5],
    })
}

/// The link that the IPv4 default route leads to, or failing that the IPv6 one, which the flag tells: its MTU.
pub(crate) fn uplink_mtu(socket: &mut Socket) -> Result<Option<(u32, bool)>> {
    for kind in [libc::AF_INET, libc::AF_INET6] {
        let mut header = [0; RTMSG];
        header[0] = kind as u8;
        let mut message = Message::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP as u16).raw(&header);
        let mut uplink = None;
        let default = |reply: &Reply<'_>| parse(reply).filter(|route| route.to.prefix_len() == 0);
        socket.query(&mut message, |reply| uplink = uplink.or(default(&reply))).context("list", "routes")?;
        if let Some(Route { interface, .. }) = uplink {
            let link =
                link::get_index(socket, interface).context("look up interface", interface.to_string())?;
            return Ok(link.map(|link| (link.mtu, kind == libc::AF_INET6)));
        }
    }
    Ok(None)
}
