//! Forgetting connections.
//!
//! The kernel remembers where a flow of datagrams was sent for as long as it flows. When that place is gone, the memory
//! must go too. The kernel lists what might be meant (it can filter by protocol and port, but confuses IPv6 addresses),
//! and is told which of those to forget.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Result;
use crate::error::Context;
use crate::netlink::{Attributes, Message, Reply, Socket};

const CT_GET: u16 = 1 << 8 | 1;
const CT_DELETE: u16 = 1 << 8 | 2;
const NFGEN: usize = 4;

/// Attribute numbers of `linux/netfilter/nfnetlink_conntrack.h`.
mod attr {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const FILTER: u16 = 25;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const IP_SRC: [u16; 2] = [1, 3];
    pub const IP_DST: [u16; 2] = [2, 4];
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
    pub const FILTER_ORIG_FLAGS: u16 = 1;
    pub const FILTER_REPLY_FLAGS: u16 = 2;
}

/// Which fields of a tuple a filter compares.
const COMPARE_PROTO_NUM: u32 = 1 << 3;
const COMPARE_DST_PORT: u32 = 1 << 5;

/// Connections by where they were meant to go, and where they were sent instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// `IPPROTO_*`
    pub protocol: u8,
    pub destination: SocketAddr,
    /// Only those that were translated to this endpoint; all when there is none.
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

    /// Forgets the connections; gives how many there were. The table is walked once per address family.
    pub fn forget(&mut self, flows: &[Flows]) -> Result<usize> {
        let mut count = 0;
        for ipv6 in [false, true] {
            let flows: Vec<&Flows> =
                flows.iter().filter(|flows| flows.destination.is_ipv6() == ipv6).collect();
            if let Some(first) = flows.first() {
                let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
                let found = self.list(family, first, &flows)?;
                count += found.len();
                for tuple in found {
                    self.delete(family, &tuple)?;
                }
            }
        }
        Ok(count)
    }

    /// The original tuples of the connections that `flows` (of one family) mean.
    fn list(&mut self, family: u8, first: &Flows, flows: &[&Flows]) -> Result<Vec<Vec<u8>>> {
        let mut wanted: HashMap<(u8, SocketAddr), HashSet<Option<SocketAddr>>> = HashMap::new();
        for flows in flows {
            wanted.entry((flows.protocol, flows.destination)).or_default().insert(flows.endpoint);
        }
        let mut message = Message::new(CT_GET, libc::NLM_F_DUMP as u16).raw(&[family, 0, 0, 0]);
        let port = first.destination.port();
        let alike = |flows: &&Flows| flows.protocol == first.protocol && flows.destination.port() == port;
        if flows.iter().all(alike) {
            message.nest(attr::TUPLE_ORIG, |tuple| {
                tuple.nest(attr::TUPLE_PROTO, |proto| {
                    proto.put(attr::PROTO_NUM, &[first.protocol]);
                    proto.put(attr::PROTO_DST_PORT, &port.to_be_bytes());
                });
            });
            message.nest(attr::FILTER, |filter| {
                filter.put_u32(attr::FILTER_ORIG_FLAGS, COMPARE_PROTO_NUM | COMPARE_DST_PORT);
                filter.put_u32(attr::FILTER_REPLY_FLAGS, 0);
            });
        }
        let mut found = Vec::new();
        let mut each = |reply: Reply<'_>| {
            let attributes = reply.attributes(NFGEN);
            let meant = parse_flow(&attributes).is_some_and(|(protocol, destination, endpoint)| {
                let endpoints = wanted.get(&(protocol, destination));
                endpoints.is_some_and(|e| e.contains(&None) || e.contains(&Some(endpoint)))
            });
            if meant {
                found.extend(attributes.find_kind(attr::TUPLE_ORIG).map(|a| a.payload.to_vec()));
            }
        };
        let object = || format!("connections to {}", first.destination);
        self.socket.query(&mut message, &mut each).context("list", object())?;
        Ok(found)
    }

    fn delete(&mut self, family: u8, tuple: &[u8]) -> Result<()> {
        let mut message = Message::new(CT_DELETE, 0).raw(&[family, 0, 0, 0]);
        message.put(attr::TUPLE_ORIG | libc::NLA_F_NESTED as u16, tuple);
        match self.socket.request(&mut message) {
            // It has ended by itself.
            Err(error) if error.errno == libc::ENOENT => Ok(()),
            result => result.context("forget", "a connection"),
        }
    }
}

/// Protocol, destination, and who answers.
pub(crate) fn parse_flow(attributes: &Attributes<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let original = attributes.find_kind(attr::TUPLE_ORIG)?.nested();
    let reply = attributes.find_kind(attr::TUPLE_REPLY)?.nested();
    let protocol = original.find_kind(attr::TUPLE_PROTO)?.nested().find_kind(attr::PROTO_NUM)?;
    let destination = parse_end(&original, attr::IP_DST, attr::PROTO_DST_PORT)?;
    let endpoint = parse_end(&reply, attr::IP_SRC, attr::PROTO_SRC_PORT)?;
    Some((*protocol.payload.first()?, destination, endpoint))
}

fn parse_end(tuple: &Attributes<'_>, ip: [u16; 2], port: u16) -> Option<SocketAddr> {
    let ips = tuple.find_kind(attr::TUPLE_IP)?.nested();
    let port = tuple.find_kind(attr::TUPLE_PROTO)?.nested().find_kind(port)?.payload;
    let ip = match (ips.find_kind(ip[0]), ips.find_kind(ip[1])) {
        (Some(v4), _) => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(v4.payload).ok()?)),
        (_, Some(v6)) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(v6.payload).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port.get(..2)?.try_into().ok()?)))
}

/// Limits of the connection tracker; what is not given stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// At least so many connections can be remembered.
    pub entries: Option<u32>,
    /// How long connections are remembered when nothing is said, in seconds.
    pub tcp_established: Option<u64>,
    pub tcp_close_wait: Option<u64>,
    pub udp: Option<u64>,
    pub udp_stream: Option<u64>,
    /// Packets out of their window do not count as invalid.
    pub tcp_be_liberal: bool,
}

impl Limits {
    /// Sets them. Gives what the machine does not allow (a container may not).
    pub fn apply(&self) -> Vec<crate::Error> {
        let key = |name: &str| format!("net/netfilter/nf_conntrack_{name}");
        let mut wanted: Vec<(String, String)> = Vec::new();
        if let Some(entries) = self.entries {
            let now = std::fs::read_to_string(format!("/proc/sys/{}", key("max")));
            let enough =
                now.ok().and_then(|text| text.trim().parse::<u32>().ok()).is_some_and(|n| n >= entries);
            if !enough {
                wanted.push((key("max"), entries.to_string()));
            }
        }
        for (name, seconds) in [
            ("tcp_timeout_established", self.tcp_established),
            ("tcp_timeout_close_wait", self.tcp_close_wait),
            ("udp_timeout", self.udp),
            ("udp_timeout_stream", self.udp_stream),
        ] {
            wanted.extend(seconds.map(|seconds| (key(name), seconds.to_string())));
        }
        if self.tcp_be_liberal {
            wanted.push((key("tcp_be_liberal"), "1".to_owned()));
        }
        wanted.iter().filter_map(|(key, value)| crate::sysctl::set(key, value).err()).collect()
    }
}
