//! Forgetting connections.
//!
//! The kernel remembers where a flow of datagrams was sent for as long as it flows. When that place is gone, the memory
//! must go too. The kernel itself finds the entries: it is given a filter and walks its table once.

use std::net::{IpAddr, SocketAddr};

use crate::Result;
use crate::error::Context;
use crate::netlink::{Message, Socket};

const CT_DELETE: u16 = 1 << 8 | 2;

/// Attribute numbers of `linux/netfilter/nfnetlink_conntrack.h`.
mod attr {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const FILTER: u16 = 25;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
    pub const FILTER_ORIG_FLAGS: u16 = 1;
    pub const FILTER_REPLY_FLAGS: u16 = 2;
}

/// Which fields of a tuple a filter compares.
mod compare {
    pub const IP_SRC: u32 = 1;
    pub const IP_DST: u32 = 1 << 1;
    pub const PROTO_NUM: u32 = 1 << 3;
    pub const PROTO_SRC_PORT: u32 = 1 << 4;
    pub const PROTO_DST_PORT: u32 = 1 << 5;
}

/// Connections by where they were meant to go, and where they were sent instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// `IPPROTO_*`
    pub protocol: u8,
    pub destination: SocketAddr,
    /// Only those that were translated to this endpoint.
    pub endpoint: Option<SocketAddr>,
}

/// A connection to the connection tracker of the network namespace in which it was opened.
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    pub fn open() -> Result<Self> {
        let socket = Socket::netfilter().context("open", "a conntrack netlink socket")?;
        Ok(Self { socket })
    }

    /// Forgets the connections. That there are none is fine.
    pub fn forget(&mut self, flows: &Flows) -> Result<()> {
        let ipv6 = flows.destination.is_ipv6();
        let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        let (ip_source, ip_destination) = if ipv6 { (3, 4) } else { (1, 2) };
        let mut message = Message::new(CT_DELETE, 0).raw(&[family as u8, 0, 0, 0]);
        message.nest(attr::TUPLE_ORIG, |tuple| {
            put_ip(tuple, ip_destination, flows.destination.ip());
            tuple.nest(attr::TUPLE_PROTO, |proto| {
                proto.put(attr::PROTO_NUM, &[flows.protocol]);
                proto.put(attr::PROTO_DST_PORT, &flows.destination.port().to_be_bytes());
            });
        });
        if let Some(endpoint) = flows.endpoint {
            message.nest(attr::TUPLE_REPLY, |tuple| {
                put_ip(tuple, ip_source, endpoint.ip());
                tuple.nest(attr::TUPLE_PROTO, |proto| {
                    proto.put(attr::PROTO_NUM, &[flows.protocol]);
                    proto.put(attr::PROTO_SRC_PORT, &endpoint.port().to_be_bytes());
                });
            });
        }
        message.nest(attr::FILTER, |filter| {
            use compare::{IP_DST, IP_SRC, PROTO_DST_PORT, PROTO_NUM, PROTO_SRC_PORT};
            filter.put_u32(attr::FILTER_ORIG_FLAGS, IP_DST | PROTO_NUM | PROTO_DST_PORT);
            let reply = flows.endpoint.map_or(0, |_| IP_SRC | PROTO_NUM | PROTO_SRC_PORT);
            filter.put_u32(attr::FILTER_REPLY_FLAGS, reply);
        });
        match self.socket.request(&mut message) {
            Err(error) if error.errno == libc::ENOENT => Ok(()),
            result => result.context("forget connections to", flows.destination.to_string()),
        }
    }
}

fn put_ip(tuple: &mut Message, kind: u16, ip: IpAddr) {
    tuple.nest(attr::TUPLE_IP, |inner| match ip {
        IpAddr::V4(ip) => inner.put(kind, &ip.octets()),
        IpAddr::V6(ip) => inner.put(kind, &ip.octets()),
    });
}
