//! The VXLAN device: Ethernet frames to other nodes inside UDP datagrams.
//!
//! It learns nothing and floods nothing: which node is behind which Ethernet address is written into it.

use std::net::IpAddr;

use crate::error::Context;
use crate::link::{self, CREATE, IFINFO, Mac, UP, ifinfo, octets};
use crate::netlink::{Attributes, Message, Socket};
use crate::{Error, Result};

/// Attribute numbers of `linux/if_link.h`.
mod attr {
    pub const ID: u16 = 1;
    pub const LOCAL: u16 = 4;
    pub const LEARNING: u16 = 7;
    pub const PORT: u16 = 15;
    pub const LOCAL6: u16 = 17;
}

/// How many bytes of each packet a tunnel needs: inner Ethernet, VXLAN and UDP headers, and the outer IP header.
pub(crate) fn overhead(ipv6: bool) -> u32 {
    14 + 8 + 8 + if ipv6 { 40 } else { 20 }
}

/// What the device must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device<'a> {
    pub name: &'a str,
    pub vni: u32,
    pub port: u16,
    /// The node's address, which datagrams come from.
    pub local: IpAddr,
    pub mac: Mac,
    pub mtu: u32,
}

/// Makes the device, in place of one of the same name that is another; gives its index.
pub(crate) fn ensure(socket: &mut Socket, device: &Device<'_>) -> Result<u32> {
    if let Some(found) = link::get(socket, device.name)? {
        if found.kind.as_deref() != Some("vxlan") {
            return Err(Error::NotAVxlan { name: device.name.to_owned() });
        }
        if is_like(socket, device)? {
            if found.mtu != device.mtu || !found.up {
                link::configure(socket, device.name, device.mac, device.mtu)?;
            }
            return Ok(found.index);
        }
        link::delete(socket, device.name)?;
    }
    create(socket, device)?;
    link::index(socket, device.name)
}

fn create(socket: &mut Socket, device: &Device<'_>) -> Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, CREATE).raw(&ifinfo(libc::AF_UNSPEC, 0, UP, UP));
    message.put_str(libc::IFLA_IFNAME, device.name);
    message.put(libc::IFLA_ADDRESS, &device.mac);
    message.put_u32(libc::IFLA_MTU, device.mtu);
    message.nest(libc::IFLA_LINKINFO, |info| {
        info.put_str(libc::IFLA_INFO_KIND, "vxlan");
        info.nest(libc::IFLA_INFO_DATA, |data| {
            data.put_u32(attr::ID, device.vni);
            let local = if device.local.is_ipv6() { attr::LOCAL6 } else { attr::LOCAL };
            data.put(local, &octets(device.local));
            data.put(attr::LEARNING, &[0]);
            data.put(attr::PORT, &device.port.to_be_bytes());
        });
    });
    socket.request(&mut message).context("create VXLAN interface", device.name)
}

/// Whether the device of that name has these properties, all but its MTU.
fn is_like(socket: &mut Socket, device: &Device<'_>) -> Result<bool> {
    let mut message = Message::new(libc::RTM_GETLINK, 0).raw(&ifinfo(libc::AF_UNSPEC, 0, 0, 0));
    message.put_str(libc::IFLA_IFNAME, device.name);
    let mut like = false;
    socket
        .query(&mut message, |reply| {
            let attributes = reply.attributes(IFINFO);
            let mac = attributes.find_kind(libc::IFLA_ADDRESS).map(|a| a.payload.to_vec());
            let info = attributes.find_kind(libc::IFLA_LINKINFO);
            let data = info.and_then(|info| info.nested().find_kind(libc::IFLA_INFO_DATA));
            if let Some(data) = data {
                like = mac.as_deref() == Some(&device.mac) && has(&data.nested(), device);
            }
        })
        .context("look up interface", device.name)?;
    Ok(like)
}

fn has(data: &Attributes<'_>, device: &Device<'_>) -> bool {
    let bytes = |kind| data.find_kind(kind).map(|attribute| attribute.payload).unwrap_or_default();
    let local = if device.local.is_ipv6() { attr::LOCAL6 } else { attr::LOCAL };
    bytes(attr::ID) == device.vni.to_ne_bytes()
        && bytes(local) == octets(device.local)
        && bytes(attr::LEARNING) == [0]
        && bytes(attr::PORT) == device.port.to_be_bytes()
}
