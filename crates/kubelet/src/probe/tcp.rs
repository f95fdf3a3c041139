//! `tcpSocket` probes: does it accept?

use std::time::Duration;

use tokio::net::TcpStream;

pub async fn connect(host: &str, port: u16, timeout: Duration) -> Result<(), String> {
    let address = super::http::authority(host, port);
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("dial tcp {address}: connect: {}", plain(&error))),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// The error without Rust's "(os error N)", as users know it.
pub fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        std::io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        _ => error.to_string(),
    }
}
