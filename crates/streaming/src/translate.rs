//! Between clients that speak WebSocket and a peer that speaks SPDY alone, as every released kubelet and container
//! runtime does where a client has the newest protocols ([KEP-4006]).
//!
//! Of an exec or attach, each channel of the WebSocket is copied to the stream of the same purpose. A port-forward is
//! SPDY already, inside the WebSocket: only the wrapping is taken off.
//!
//! [KEP-4006]: https://kep.k8s.io/4006

use http::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::channel::{Frame, Input, Output};
use crate::remote_command::{ERROR, Exit, RESIZE, STDERR, STDIN, STDOUT, Streams};
use crate::upgrade::{Answer, Transport, agree};
use crate::websocket::{self, Channels, Encoding};
use crate::{Error, Rejection, spdy};

/// What clients ask for that is translated; older protocols of WebSockets are spoken by the peers themselves.
const REMOTE_COMMAND: &[(Transport, &str, ())] = &[(Transport::WebSocket, "v5.channel.k8s.io", ())];
const PORT_FORWARD: &[(Transport, &str, ())] = &[(Transport::WebSocket, "SPDY/3.1+portforward.k8s.io", ())];
/// The last words of a process are a Status of some hundred bytes.
const MAX_STATUS: u64 = 64 * 1024;

/// The SPDY protocols to ask the peer for.
pub mod protocols {
    pub const REMOTE_COMMAND: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io"];
    pub const PORT_FORWARD: &[&str] = &["portforward.k8s.io"];
}

/// An upgraded connection to the peer, and the protocol that it has chosen.
pub struct SpdyPeer<T> {
    pub io: T,
    pub protocol: String,
}

/// Whether a request is one to be translated: of a port-forward, or else of an exec or attach.
pub fn translated(headers: &HeaderMap, port_forward: bool) -> bool {
    let protocols = if port_forward { PORT_FORWARD } else { REMOTE_COMMAND };
    // A request without a key is refused by whoever answers it; here it counts as one.
    !matches!(agree(headers, protocols), Err(Rejection::NotAnUpgrade | Rejection::NoProtocol(_)))
}

/// Grants a port-forward. Send the response; the future carries bytes until both sides have ended.
pub fn translate_port_forward<B, T>(
    mut request: Request<B>,
    mut peer: T,
) -> Result<(Answer, impl Future<Output = Result<(), Error>> + Send + use<B, T>), Rejection>
where
    B: Send,
    T: AsyncRead + AsyncWrite + Send + Unpin,
{
    let agreed = agree(request.headers(), PORT_FORWARD)?;
    let upgrade = hyper::upgrade::on(&mut request);
    drop(request);
    let carry = async move {
        let mut client = websocket::tunnel(TokioIo::new(upgrade.await?));
        tokio::io::copy_bidirectional(&mut client, &mut peer).await.map_err(Error::Io)?;
        Ok(())
    };
    Ok((agreed.response, carry))
}

/// Grants an exec or attach. Send the response; the future then has `peer` made (or gets the Status that tells why
/// there is none) and carries the streams until the process or the client has gone.
pub fn translate_remote_command<B, T, P>(
    mut request: Request<B>,
    streams: Streams,
    peer: P,
) -> Result<(Answer, impl Future<Output = Result<(), Error>> + Send + use<B, T, P>), Rejection>
where
    B: Send,
    T: AsyncRead + AsyncWrite + Send + 'static,
    P: Future<Output = Result<SpdyPeer<T>, Value>> + Send,
{
    let agreed = agree(request.headers(), REMOTE_COMMAND)?;
    let upgrade = hyper::upgrade::on(&mut request);
    drop(request);
    let carry = async move {
        let io = TokioIo::new(upgrade.await?);
        let mut client = websocket::serve(io, Encoding::Binary, &[STDIN, RESIZE]).await;
        let status = tokio::select! {
            () = client.closed.clone().cancelled_owned() => return Ok(()),
            peer = peer => match peer {
                Ok(peer) => carry(&mut client, streams, peer).await,
                Err(status) => Some(status),
            },
        };
        if let Some(status) = status {
            let mut error = Output::new(ERROR.into(), client.frames.clone());
            // A client that is gone needs no message.
            let _ = error.write_all(status.to_string().as_bytes()).await;
        }
        let _ = client.frames.send(Frame::Close).await;
        Ok(())
    };
    Ok((agreed.response, carry))
}

/// Copies until the process has ended, and returns how; nothing if the client went before.
async fn carry<T>(client: &mut Channels, streams: Streams, peer: SpdyPeer<T>) -> Option<Value>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let as_status = peer.protocol == "v4.channel.k8s.io";
    // A terminal has one output; its size can be told since version 3.
    let wanted = [
        ("error", true, ERROR),
        ("stdin", streams.stdin, STDIN),
        ("stdout", streams.stdout, STDOUT),
        ("stderr", streams.stderr && !streams.tty, STDERR),
        ("resize", streams.tty && peer.protocol != "v2.channel.k8s.io", RESIZE),
    ];
    let wanted: Vec<_> = wanted.into_iter().filter(|(_, wanted, _)| *wanted).collect();
    let headers = wanted.iter().map(|(name, ..)| vec![("streamtype", (*name).to_owned())]).collect();
    let (opened, connection) = spdy::connect(peer.io, headers).await;
    let (mut outputs, mut error) = (Vec::new(), None);
    for ((_, _, channel), stream) in wanted.into_iter().zip(opened) {
        match channel {
            ERROR => error = Some(stream.input),
            STDIN | RESIZE => {
                if let Some(input) = client.inputs.remove(&channel) {
                    tokio::spawn(copy(input, stream.output, connection.closed.clone()));
                }
            }
            _ => {
                let output = Output::new(channel.into(), client.frames.clone());
                outputs.push(tokio::spawn(copy(stream.input, output, client.closed.clone())));
            }
        }
    }
    let told = async {
        let mut text = Vec::new();
        if let Some(error) = error {
            // What broke off is told as far as it came.
            let _ = error.take(MAX_STATUS).read_to_end(&mut text).await;
        }
        // Everything that the process wrote arrives before the word of its end.
        futures::future::join_all(outputs).await;
        text
    };
    let text = tokio::select! {
        () = client.closed.clone().cancelled_owned() => None,
        text = told => Some(text),
    };
    let _ = connection.frames.send(Frame::Close).await;
    text.map(|text| status(&text, as_status))
}

/// One direction of one stream, up to its end or that of the connection it goes to.
async fn copy(mut from: Input, mut to: Output, gone: CancellationToken) {
    let copying = async {
        if tokio::io::copy(&mut from, &mut to).await.is_ok() {
            // Who is gone needs not be told of the end.
            let _ = to.shutdown().await;
        }
    };
    tokio::select! { () = copying => {}, () = gone.cancelled() => {} }
}

/// What the peer told of the end, as a Status.
fn status(told: &[u8], as_status: bool) -> Value {
    let text = String::from_utf8_lossy(told);
    match as_status {
        true => serde_json::from_slice(told).ok().filter(Value::is_object).unwrap_or_else(|| {
            let why = match text.trim() {
                "" => "the connection to the node ended before the process did",
                text => text,
            };
            Exit::Error(why.to_owned()).status()
        }),
        // The older protocols say nothing when all is well.
        false if text.trim().is_empty() => json!({"metadata": {}, "status": "Success"}),
        false => Exit::Error(text.trim().to_owned()).status(),
    }
}

#[cfg(test)]
mod tests;
