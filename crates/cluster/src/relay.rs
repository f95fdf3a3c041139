//! Leading connections and datagrams on to the first of several places that takes them.
//!
//! Used for the ports of this machine that belong to a cluster in namespaces, and by nodes that know several servers:
//! whichever of them lives is behind one address.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::sockopt;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// A place that does not answer by then is passed over.
const CONNECT: Duration = Duration::from_secs(2);
/// A place that has been silent for so long is asked whether it lives, and is given up after a few such questions, or
/// when it has not acknowledged for as long as they would take.
const SILENCE: Duration = Duration::from_secs(5);
const QUESTIONS: u32 = 3;
const QUESTION: Duration = Duration::from_secs(2);
/// Nobody's datagrams any more.
const IDLE: Duration = Duration::from_secs(60);
/// Senders of datagrams that are known at a time.
const SENDERS: usize = 4096;
const DATAGRAM: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// One port that leads elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forward {
    pub listen: SocketAddr,
    pub targets: Vec<SocketAddr>,
    pub protocol: Protocol,
}

/// A port that is listened on.
pub enum Port {
    Tcp(TcpListener, Vec<SocketAddr>),
    Udp(UdpSocket, Vec<SocketAddr>),
}

impl Forward {
    pub async fn bind(&self) -> io::Result<Port> {
        let targets = self.targets.clone();
        Ok(match self.protocol {
            Protocol::Tcp => Port::Tcp(TcpListener::bind(self.listen).await?, targets),
            Protocol::Udp => Port::Udp(UdpSocket::bind(self.listen).await?, targets),
        })
    }
}

impl Port {
    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Port::Tcp(listener, _) => listener.local_addr(),
            Port::Udp(socket, _) => socket.local_addr(),
        }
    }

    pub async fn serve(self, shutdown: CancellationToken) {
        match self {
            Port::Tcp(listener, targets) => tcp(listener, watch::channel(targets).1, shutdown).await,
            Port::Udp(socket, targets) => udp(socket, targets, shutdown).await,
        }
    }
}

/// Leads every connection to one of the targets of that moment: to the one that took the last, while it does.
pub async fn tcp(
    listener: TcpListener,
    targets: watch::Receiver<Vec<SocketAddr>>,
    shutdown: CancellationToken,
) {
    let last = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let mut client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                // Too many open files, mostly.
                debug!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (targets, last, shutdown) = (targets.borrow().clone(), last.clone(), shutdown.clone());
        tokio::spawn(async move {
            let Some(mut server) = connect(&targets, &last).await else { return };
            let _ = client.set_nodelay(true);
            let copy = tokio::io::copy_bidirectional(&mut client, &mut server);
            tokio::select! { () = shutdown.cancelled() => {}, _ = copy => {} }
        });
    }
}

async fn connect(targets: &[SocketAddr], last: &AtomicUsize) -> Option<TcpStream> {
    let first = last.load(Ordering::Relaxed);
    for offset in 0..targets.len() {
        let index = (first.wrapping_add(offset)) % targets.len();
        let target = targets.get(index)?;
        match tokio::time::timeout(CONNECT, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => {
                last.store(index, Ordering::Relaxed);
                watch_over(&stream);
                return Some(stream);
            }
            Ok(Err(error)) => debug!(%target, %error, "passed over"),
            Err(_) => debug!(%target, "passed over: no answer"),
        }
    }
    None
}

/// A peer that vanishes without a word is noticed. Where the kernel refuses one of these, it is noticed later.
fn watch_over(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, SILENCE);
    let _ = sockopt::set_tcp_keepintvl(stream, QUESTION);
    let _ = sockopt::set_tcp_keepcnt(stream, QUESTIONS);
    let longest = SILENCE + QUESTION * QUESTIONS;
    let _ = sockopt::set_tcp_user_timeout(stream, longest.as_millis().try_into().unwrap_or(0));
}

/// Leads datagrams to the first target, and the answers back; a socket for each sender, while it has something to say.
async fn udp(socket: UdpSocket, targets: Vec<SocketAddr>, shutdown: CancellationToken) {
    let Some(target) = targets.first().copied() else { return };
    let socket = Arc::new(socket);
    let senders: Arc<tokio::sync::Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>> = Arc::default();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An earlier answer could not be delivered: not what this is about.
        let Ok((length, sender)) = received else { continue };
        let mut known = senders.lock().await;
        let way = match known.get(&sender) {
            Some(way) => way.clone(),
            None if known.len() >= SENDERS => continue,
            None => {
                let Ok(way) = way_to(target).await else { continue };
                let way = Arc::new(way);
                known.insert(sender, way.clone());
                let answers = answers(socket.clone(), way.clone(), sender);
                let (senders, shutdown) = (senders.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! { () = shutdown.cancelled() => {}, () = answers => {} }
                    senders.lock().await.remove(&sender);
                });
                way
            }
        };
        drop(known);
        let _ = way.send(&buffer[..length]).await;
    }
}

async fn way_to(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let way = UdpSocket::bind(any).await?;
    way.connect(target).await?;
    Ok(way)
}

/// Ends when there has been none for a while.
async fn answers(socket: Arc<UdpSocket>, way: Arc<UdpSocket>, sender: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok(received) = tokio::time::timeout(IDLE, way.recv(&mut buffer)).await {
        if let Ok(length) = received {
            let _ = socket.send_to(&buffer[..length], sender).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn port(protocol: Protocol, targets: Vec<SocketAddr>) -> (SocketAddr, CancellationToken) {
        let forward = Forward { listen: (Ipv4Addr::LOCALHOST, 0).into(), targets, protocol };
        let port = forward.bind().await.unwrap();
        let (address, shutdown) = (port.address().unwrap(), CancellationToken::new());
        tokio::spawn(port.serve(shutdown.clone()));
        (address, shutdown)
    }

    #[tokio::test]
    async fn connections_go_to_one_that_takes_them() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let living = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, _shutdown) = port(Protocol::Tcp, vec![dead, living.local_addr().unwrap()]).await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = living.accept().await {
                let mut text = [0; 4];
                stream.read_exact(&mut text).await.unwrap();
                stream.write_all(&text).await.unwrap();
            }
        });
        for _ in 0..2 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"ping");
        }
        let (nowhere, _shutdown) = port(Protocol::Tcp, vec![dead]).await;
        let mut client = TcpStream::connect(nowhere).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0, "closed");
    }

    #[tokio::test]
    async fn datagrams_are_answered_to_their_senders() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, _shutdown) = port(Protocol::Udp, vec![server.local_addr().unwrap()]).await;
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = server.recv_from(&mut buffer).await {
                server.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        let (one, two) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        one.send_to(b"one", address).await.unwrap();
        two.send_to(b"two!", address).await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(one.recv_from(&mut buffer).await.unwrap(), (3, address));
        assert_eq!(two.recv_from(&mut buffer).await.unwrap(), (4, address));
        assert_eq!(&buffer[..4], b"two!");
    }
}
