//! Being told when addresses and links of this machine change.

use std::os::fd::{AsRawFd, RawFd};

use crate::error::Context;
use crate::netlink::{Reply, Socket};
use crate::{Result, link};

const IFADDR: usize = 8;
const GROUPS: u32 = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;

/// Something that routes may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An address came or went (link-local ones do not count), or more happened than could be told.
    Addresses,
    /// The interface of that index came, went or changed.
    Link(u32),
}

/// A subscription, of the network namespace in which it was opened. Its descriptor is readable when something has
/// happened.
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    pub fn open() -> Result<Self> {
        let socket =
            Socket::route_events(GROUPS).context("subscribe to", "changes of links and addresses")?;
        Ok(Self { socket })
    }

    /// Everything that has happened since the last call; does not wait.
    pub fn read(&mut self, mut each: impl FnMut(Event)) -> Result<()> {
        let outcome = self.socket.drain(|reply| {
            if let Some(event) = parse(&reply) {
                each(event);
            }
        });
        match outcome {
            Err(error) if error.errno == libc::ENOBUFS => {
                each(Event::Addresses);
                Ok(())
            }
            outcome => outcome.context("read", "changes of links and addresses"),
        }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

pub(crate) fn parse(reply: &Reply<'_>) -> Option<Event> {
    match reply.kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            Some(Event::Link(u32::from_ne_bytes(reply.body.get(4..8)?.try_into().ok()?)))
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            let address = reply.attributes(IFADDR).find_kind(libc::IFA_ADDRESS)?;
            match link::ip_from(address.payload)? {
                std::net::IpAddr::V6(ip) if ip.is_unicast_link_local() => None,
                _ => Some(Event::Addresses),
            }
        }
        _ => None,
    }
}
