//! Forwarded connections: each a stream of data and a stream for one error message.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::channel::{Input, Output, QUEUE};
use crate::upgrade::{Answer, Transport, agree};
use crate::websocket::{self, Encoding};
use crate::{Error, Rejection, spdy};

/// Requests that wait for their second stream.
const MAX_HALVES: usize = 1024;
/// Ports that one WebSocket request may name; channels are numbered by a byte, two to a port.
const MAX_PORTS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Spdy,
    /// SPDY inside a WebSocket.
    Tunnel,
    Channels,
}

const PROTOCOLS: &[(Transport, &str, Protocol)] = &[
    (Transport::Spdy, "portforward.k8s.io", Protocol::Spdy),
    (Transport::Spdy, "", Protocol::Spdy),
    (Transport::WebSocket, "SPDY/3.1+portforward.k8s.io", Protocol::Tunnel),
    (Transport::WebSocket, "v4.channel.k8s.io", Protocol::Channels),
    (Transport::WebSocket, "portforward.k8s.io", Protocol::Channels),
    (Transport::WebSocket, "", Protocol::Channels),
];

/// One connection to be made to a port, and what goes to and fro on it. It keeps the peer's connection open.
pub struct Forward {
    pub port: u16,
    input: Input,
    output: Output,
    error: Output,
    /// Cancelled when the client is gone.
    pub closed: CancellationToken,
}

impl Forward {
    /// Tells the client why there is no connection (any more).
    pub async fn fail(mut self, message: &str) {
        // A client that is gone needs no message.
        let _ = self.error.write_all(message.as_bytes()).await;
        self.finish().await;
    }

    /// Ends both streams.
    pub async fn finish(mut self) {
        let _ = self.output.shutdown().await;
        let _ = self.error.shutdown().await;
    }
}

impl AsyncRead for Forward {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buf)
    }
}

impl AsyncWrite for Forward {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(cx)
    }
}

/// Grants the upgrade of a port-forward request. `ports` are those of the query, which only WebSocket clients give.
/// Send the response; the future then gives the forwarded connections as they come, until the client is gone.
pub fn port_forward<B>(
    mut request: Request<B>,
    ports: &[u16],
) -> Result<(Answer, impl Future<Output = Result<mpsc::Receiver<Forward>, Error>> + Send + use<B>), Rejection>
where
    B: Send,
{
    let agreed = agree(request.headers(), PROTOCOLS)?;
    let count = ports.len();
    if agreed.protocol == Protocol::Channels && !(1..=MAX_PORTS).contains(&count) {
        return Err(Rejection::Port(format!(
            "a query must name from 1 to {MAX_PORTS} ports, this one names {count}"
        )));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    drop(request);
    let ports = ports.to_vec();
    let begin = async move {
        let io = TokioIo::new(upgrade.await?);
        let (sender, receiver) = mpsc::channel(QUEUE);
        match agreed.protocol {
            Protocol::Spdy => pair_streams(spdy::serve(io), sender),
            Protocol::Tunnel => pair_streams(spdy::serve(websocket::tunnel(io)), sender),
            Protocol::Channels => over_channels(io, &ports, sender).await,
        }
        Ok(receiver)
    };
    Ok((agreed.response, begin))
}

/// Matches data streams and error streams by the number of the request that both carry.
fn pair_streams(mut connection: spdy::Connection, forwards: mpsc::Sender<Forward>) {
    tokio::spawn(async move {
        let mut halves: HashMap<String, (Option<spdy::Stream>, Option<spdy::Stream>)> = HashMap::new();
        loop {
            let stream = tokio::select! {
                stream = connection.streams.recv() => stream,
                () = forwards.closed() => None,
            };
            let Some(stream) = stream else { break };
            if halves.len() >= MAX_HALVES {
                break;
            }
            let request = stream.headers.get("requestid").unwrap_or_default().to_owned();
            let half = halves.entry(request.clone()).or_default();
            match stream.headers.get("streamtype") {
                Some("data") => half.0 = Some(stream),
                Some("error") => half.1 = Some(stream),
                _ => continue,
            }
            if let Some((Some(_), Some(_))) = halves.get(&request)
                && let Some((Some(data), Some(mut error))) = halves.remove(&request)
            {
                let port = data.headers.get("port").unwrap_or_default().to_owned();
                match port.parse() {
                    Ok(port) => {
                        let closed = connection.closed.clone();
                        let forward = Forward {
                            port,
                            input: data.input,
                            output: data.output,
                            error: error.output,
                            closed,
                        };
                        let _ = forwards.send(forward).await;
                    }
                    Err(_) => {
                        let message = format!("{port:?} is not a port");
                        let _ = error.output.write_all(message.as_bytes()).await;
                        let _ = error.output.shutdown().await;
                    }
                }
            }
        }
        let _ = connection.frames.send(crate::channel::Frame::Close).await;
    });
}

/// Each port has a channel for data and one for errors, and both begin with the port's number.
async fn over_channels(
    io: TokioIo<hyper::upgrade::Upgraded>,
    ports: &[u16],
    forwards: mpsc::Sender<Forward>,
) {
    let readable: Vec<u8> = (0..ports.len() as u8).map(|i| i * 2).collect();
    let mut connection = websocket::serve(io, Encoding::Binary, &readable).await;
    for (port, channel) in ports.iter().zip(readable) {
        let Some(input) = connection.inputs.remove(&channel) else { continue };
        let mut output = Output::new(channel.into(), connection.frames.clone());
        let mut error = Output::new((channel + 1).into(), connection.frames.clone());
        let _ = output.write_all(&port.to_le_bytes()).await;
        let _ = error.write_all(&port.to_le_bytes()).await;
        let closed = connection.closed.clone();
        let _ = forwards.send(Forward { port: *port, input, output, error, closed }).await;
    }
}
