//! Addresses and routes of the node itself.

use std::net::IpAddr;

use crate::error::Context;
use crate::link;
use crate::netlink::Socket;
use crate::route::{self, Route};
use crate::{IpNet, Result};

/// Makes `ip` an address of this node, on interface `name` (a bridge, or `lo`), as a host address. Doing it
/// again changes nothing.
pub fn ensure_local(ip: IpAddr, name: &str) -> Result<()> {
    let mut socket = Socket::route().context("open", "a route netlink socket")?;
    let index = link::index(&mut socket, name)?;
    let prefix = if ip.is_ipv4() { 32 } else { 128 };
    link::add_address(&mut socket, index, ip, prefix)
}

/// Takes back what [`ensure_local`] did.
pub fn remove_local(ip: IpAddr, name: &str) -> Result<()> {
    let mut socket = Socket::route().context("open", "a route netlink socket")?;
    let Some(found) = link::get(&mut socket, name)? else {
        return Ok(());
    };
    link::remove_address(&mut socket, found.index, IpNet::from(ip))
}

/// Makes a route to `to` by interface `name`. Without a default route the node's own processes need one to the
/// service CIDR: a packet must have a route before it can be sent on to an endpoint.
pub fn ensure_route(to: IpNet, name: &str) -> Result<()> {
    let mut socket = Socket::route().context("open", "a route netlink socket")?;
    let interface = link::index(&mut socket, name)?;
    route::replace(&mut socket, &Route::fixed(to, None, interface))
}

/// The addresses of this machine, without the link-local ones.
pub fn local() -> Result<Vec<IpAddr>> {
    let mut socket = Socket::route().context("open", "a route netlink socket")?;
    Ok(link::all_addresses(&mut socket)?.into_iter().map(|(_, net)| net.addr()).collect())
}
