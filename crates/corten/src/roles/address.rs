//! The address and the name of this machine.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result};

/// The address that the default route gives packets from here.
pub fn default_route() -> Result<IpAddr> {
    // Connecting a UDP socket asks the kernel for the route and sends nothing. The addresses are for documentation
    // only (RFC 5737, RFC 3849), so that whatever the route is, it is the default one.
    for (bind, far) in [("0.0.0.0:0", "203.0.113.1:9"), ("[::]:0", "[2001:db8::1]:9")] {
        let address = UdpSocket::bind(bind).and_then(|socket| {
            socket.connect(far)?;
            socket.local_addr()
        });
        if let Ok(address) = address
            && !address.ip().is_unspecified()
        {
            return Ok(address.ip());
        }
    }
    anyhow::bail!(
        "this machine has no default route; give its address with --advertise-address and --node-ip"
    )
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
