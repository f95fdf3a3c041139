//! The address and the name of this machine.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result};

/// The address that the default route of that family gives packets from here.
pub fn of_family(ipv6: bool) -> Option<IpAddr> {
    // Connecting a UDP socket asks the kernel for the route and sends nothing. The addresses are for documentation
    // only (RFC 5737, RFC 3849), so that whatever the route is, it is the default one.
    let (bind, far) = if ipv6 { ("[::]:0", "[2001:db8::1]:9") } else { ("0.0.0.0:0", "203.0.113.1:9") };
    let socket = UdpSocket::bind(bind).ok()?;
    socket.connect(far).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// The addresses that default routes give packets from here: of each of these families, in their order; if there is
/// none, that of the other one.
pub fn default_routes(families: &[bool]) -> Result<Vec<IpAddr>> {
    let found: Vec<IpAddr> = families.iter().filter_map(|ipv6| of_family(*ipv6)).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let any = of_family(false).or_else(|| of_family(true));
    any.map(|ip| vec![ip])
        .context("this machine has no default route; give its address with --advertise-address and --node-ip")
}

/// The host name as a node name: lower case.
pub fn hostname() -> Result<String> {
    let name =
        rustix::system::uname().nodename().to_str().context("the host name is not UTF-8")?.to_lowercase();
    anyhow::ensure!(
        !name.is_empty(),
        "this machine has no host name; give the node's with --hostname-override"
    );
    Ok(name)
}
