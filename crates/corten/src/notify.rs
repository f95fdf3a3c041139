//! Telling whoever started us how far we are: systemd, or our own parent (see [`crate::detach`]), by the protocol of
//! sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A step was done; shown to people while they wait.
pub fn status(text: &str) {
    send(&format!("STATUS={text}"));
}

/// Everything is there.
pub fn ready() {
    send("READY=1");
}

fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    // Nobody listens, nobody minds.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(message.as_bytes(), &address);
    }
}
