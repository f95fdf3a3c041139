//! The protocols of `kubectl exec`, `attach`, `cp` and `port-forward`, on the side that serves them.
//!
//! Two transports carry several streams over one upgraded HTTP connection: SPDY/3.1 ([`spdy`]) and WebSocket channels
//! ([`websocket`]); a port-forward may also be SPDY inside a WebSocket. On top of either, [`remote_command`] gives the
//! standard streams of one process, and [`port_forward`] gives one pair of streams per forwarded connection.
//!
//! [`translate`] is for those between a client that speaks WebSocket and a peer that speaks SPDY alone.
//!
//! Nothing here knows Kubernetes objects, pods or processes. The peer is a client of unknown honesty: frames,
//! headers and queues are bounded.

mod channel;
mod port_forward;
mod remote_command;
mod spdy;
mod translate;
mod upgrade;
mod websocket;

pub use channel::{Input, Output};
pub use port_forward::{Forward, port_forward};
pub use remote_command::{Exit, ExitSender, RemoteCommand, Streams, TerminalSize, remote_command};
pub use translate::{
    SpdyPeer, protocols as spdy_protocols, translate_port_forward, translate_remote_command, translated,
};
pub use upgrade::{Answer, Rejection};

/// The connection broke, or the peer broke the protocol.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection could not be upgraded: {0}")]
    Upgrade(#[from] hyper::Error),
    #[error("the connection broke: {0}")]
    Io(std::io::Error),
    #[error("the connection ended before the streams were there")]
    Ended,
    #[error("the client did not open its streams in time")]
    Timeout,
}
