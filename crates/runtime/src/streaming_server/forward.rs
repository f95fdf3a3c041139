//! Port-forwarding: connections made inside the pod's network namespace.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use streaming::{Forward, Rejection};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::sandbox::Sandbox;

/// Answers the request; the connections are served from then on by a task that has the ports.
pub async fn answer(
    sandbox: Arc<Sandbox>,
    ports: Vec<u16>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Rejection> {
    let (sender, answer) = oneshot::channel();
    tokio::spawn(async move {
        match streaming::port_forward(request, &ports) {
            Ok((response, forwards)) => {
                // Nobody waits for the answer if the connection is gone already.
                let _ = sender.send(Ok(response));
                serve(sandbox, forwards).await;
            }
            Err(rejection) => drop(sender.send(Err(rejection))),
        }
    });
    answer.await.unwrap_or(Err(Rejection::NotAnUpgrade))
}

async fn serve(
    sandbox: Arc<Sandbox>,
    forwards: impl Future<Output = Result<mpsc::Receiver<Forward>, streaming::Error>>,
) {
    let mut forwards = match forwards.await {
        Ok(forwards) => forwards,
        Err(error) => return tracing::debug!(sandbox = sandbox.id, %error, "port-forward not begun"),
    };
    while let Some(forward) = forwards.recv().await {
        tokio::spawn(one(sandbox.clone(), forward));
    }
}

async fn one(sandbox: Arc<Sandbox>, mut forward: Forward) {
    let port = forward.port;
    let mut stream = match connect(&sandbox, port).await {
        Ok(stream) => stream,
        Err(error) => {
            let message =
                format!("failed to connect to localhost:{port} inside namespace {:?}: {error}", sandbox.id);
            return forward.fail(&message).await;
        }
    };
    let closed = forward.closed.clone();
    tokio::select! {
        // Either side may break off; the streams are ended below.
        _ = copy_bidirectional(&mut forward, &mut stream) => {}
        () = closed.cancelled() => return,
    }
    forward.finish().await;
}

/// To the port on the pod's loopback, of whichever family listens.
async fn connect(sandbox: &Sandbox, port: u16) -> io::Result<TcpStream> {
    let first = connect_to(sandbox, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    match first {
        Ok(stream) => Ok(stream),
        Err(error) => {
            connect_to(sandbox, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.map_err(|_| error)
        }
    }
}

async fn connect_to(sandbox: &Sandbox, address: SocketAddr) -> io::Result<TcpStream> {
    let shim = sandbox.record.lock().shim_pid;
    // A socket belongs to the namespace it was made in, whoever connects it; so only its making happens on a thread
    // that goes there, and that thread does not come back.
    let made = std::thread::spawn(move || -> io::Result<OwnedFd> {
        let namespace = File::open(format!("/proc/{shim}/ns/net"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        Ok(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
    });
    let socket = tokio::task::spawn_blocking(move || made.join()).await.map_err(io::Error::other)?;
    let socket = socket.map_err(|_| io::Error::other("the thread that makes the socket failed"))??;
    // SAFETY: the descriptor is a TCP socket that we own and give away.
    let socket = unsafe { TcpSocket::from_raw_fd(socket.into_raw_fd()) };
    socket.connect(address).await
}
