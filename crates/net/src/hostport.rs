//! Host ports: ports of the node that lead to a pod.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::rules::octets;

/// A port of the node that leads to a port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// `IPPROTO_TCP`, `IPPROTO_UDP` or `IPPROTO_SCTP`.
    pub protocol: u8,
    /// The address of the node on which it answers; all of them when there is none.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub pod_port: u16,
}

/// A host port in one address family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mapping {
    protocol: u8,
    host_ip: Option<IpAddr>,
    host_port: u16,
    pub pod: SocketAddr,
}

/// The mappings that `ports` of a pod with the addresses `ips` come to.
pub(crate) fn mappings(ports: &[HostPort], ips: &[IpAddr]) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    for port in ports {
        // "0.0.0.0" and "::" are other words for all addresses.
        let host_ip = port.host_ip.filter(|ip| !ip.is_unspecified());
        let same_family = |ip: &&IpAddr| port.host_ip.is_none_or(|host| host.is_ipv6() == ip.is_ipv6());
        mappings.extend(ips.iter().filter(same_family).map(|ip| Mapping {
            protocol: port.protocol,
            host_ip,
            host_port: port.host_port,
            pod: SocketAddr::new(*ip, port.pod_port),
        }));
    }
    mappings
}

/// The map of host ports on one address of the node.
pub(crate) fn on_one(ipv6: bool) -> &'static str {
    if ipv6 { "host-ports-on6" } else { "host-ports-on4" }
}

/// The map of host ports on all addresses of the node.
pub(crate) fn on_all(ipv6: bool) -> &'static str {
    if ipv6 { "host-ports6" } else { "host-ports4" }
}

fn port_bytes(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

impl Mapping {
    pub fn map(&self) -> &'static str {
        let map = if self.host_ip.is_some() { on_one } else { on_all };
        map(self.pod.is_ipv6())
    }

    pub fn key(&self) -> Vec<u8> {
        let mut key = self.host_ip.map(octets).unwrap_or_default();
        key.extend_from_slice(&[self.protocol, 0, 0, 0]);
        key.extend_from_slice(&port_bytes(self.host_port));
        key
    }

    pub fn endpoint(&self) -> Vec<u8> {
        let mut data = octets(self.pod.ip());
        data.extend_from_slice(&port_bytes(self.pod.port()));
        data
    }
}
