//! WebSocket channels: the first byte of a message says which stream it belongs to. Also a WebSocket as plain bytes,
//! for SPDY inside it.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::channel::{Frame, Input, QUEUE};

const MAX_MESSAGE: usize = 4 << 20;
const LINGER: Duration = Duration::from_secs(5);
/// In version 5, a message on this channel closes the channel that its payload names.
const CLOSE_CHANNEL: u8 = 255;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Encoding {
    Binary,
    /// For clients that have only text: the channel as a digit, then base64.
    Base64,
}

/// A connection with a fixed set of channels.
pub(crate) struct Channels {
    pub inputs: HashMap<u8, Input>,
    pub frames: mpsc::Sender<Frame>,
    /// Cancelled when the peer is gone.
    pub closed: CancellationToken,
}

async fn websocket<T: AsyncRead + AsyncWrite + Unpin>(io: T, role: Role) -> WebSocketStream<T> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, role, Some(config)).await
}

/// Begins to serve channels on an upgraded connection; the peer may send on `readable` ones.
pub(crate) async fn serve<T>(io: T, encoding: Encoding, readable: &[u8]) -> Channels
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, mut stream) = websocket(io, Role::Server).await.split();
    let (frames, mut outgoing) = mpsc::channel(QUEUE);
    let closed = CancellationToken::new();
    let flushed = CancellationToken::new();
    let mut inputs = HashMap::new();
    let mut senders: HashMap<u8, mpsc::Sender<Bytes>> = HashMap::new();
    for channel in readable {
        let (sender, receiver) = mpsc::channel(QUEUE);
        senders.insert(*channel, sender);
        inputs.insert(*channel, Input::new(receiver));
    }
    let (reader_closed, reader_flushed) = (closed.clone(), flushed.clone());
    tokio::spawn(async move {
        let read = async {
            while let Some(message) = stream.next().await {
                match message.map(|m| decode(encoding, m)) {
                    Ok(Some((CLOSE_CHANNEL, payload))) => {
                        payload.first().and_then(|channel| senders.remove(channel));
                    }
                    Ok(Some((channel, payload))) => {
                        if let Some(sender) = senders.get(&channel) {
                            let _ = sender.send(payload).await;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        debug!(%error, "WebSocket connection ended");
                        break;
                    }
                }
            }
        };
        let linger = async {
            reader_flushed.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! { () = read => {}, () = linger => {} }
        reader_closed.cancel();
    });
    tokio::spawn(async move {
        while let Some(frame) = outgoing.recv().await {
            let sent = match frame {
                Frame::Data { stream, bytes } => sink.send(encode(encoding, stream as u8, &bytes)).await,
                Frame::Close => break,
                _ => Ok(()),
            };
            if sent.is_err() {
                break;
            }
        }
        // Clients take a close without a code for a broken connection.
        let _ = sink.send(goodbye()).await;
        let _ = sink.close().await;
        flushed.cancel();
    });
    Channels { inputs, frames, closed }
}

fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

fn encode(encoding: Encoding, channel: u8, payload: &[u8]) -> Message {
    match encoding {
        Encoding::Binary => {
            let mut message = BytesMut::with_capacity(1 + payload.len());
            message.put_u8(channel);
            message.put_slice(payload);
            Message::Binary(message.freeze())
        }
        Encoding::Base64 => Message::Text(format!("{channel}{}", STANDARD.encode(payload)).into()),
    }
}

/// The channel and the payload; nothing for messages that carry neither.
fn decode(encoding: Encoding, message: Message) -> Option<(u8, Bytes)> {
    let mut data = match message {
        Message::Binary(data) => data,
        Message::Text(text) => Bytes::from(text),
        _ => return None,
    };
    if data.is_empty() {
        return None;
    }
    let channel = data.split_to(1)[0];
    match encoding {
        Encoding::Binary => Some((channel, data)),
        Encoding::Base64 => Some((channel.checked_sub(b'0')?, STANDARD.decode(&data).ok()?.into())),
    }
}

/// A WebSocket whose binary messages are one stream of bytes in each direction.
pub(crate) fn tunnel<T>(io: T) -> tokio::io::DuplexStream
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    tunnel_as(io, Role::Server)
}

pub(crate) fn tunnel_as<T>(io: T, role: Role) -> tokio::io::DuplexStream
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let (mut sink, mut stream) = websocket(io, role).await.split();
        let (mut read, mut write) = tokio::io::split(theirs);
        let inward = async {
            while let Some(message) = stream.next().await {
                if let Message::Binary(data) = message? {
                    write.write_all(&data).await?;
                }
            }
            write.shutdown().await?;
            Ok::<_, WsError>(())
        };
        let outward = async {
            loop {
                let mut buffer = BytesMut::with_capacity(32 * 1024);
                if read.read_buf(&mut buffer).await? == 0 {
                    break;
                }
                sink.send(Message::Binary(buffer.freeze())).await?;
            }
            sink.send(goodbye()).await?;
            sink.close().await
        };
        let both = async { tokio::try_join!(inward, outward) };
        if let Err(error) = both.await.map_err(io::Error::other) {
            debug!(%error, "WebSocket tunnel ended");
        }
    });
    ours
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_are_read_as_written(channel in 0u8..9, payload: Vec<u8>) {
            for encoding in [Encoding::Binary, Encoding::Base64] {
                let message = encode(encoding, channel, &payload);
                prop_assert_eq!(decode(encoding, message), Some((channel, Bytes::from(payload.clone()))));
            }
        }

        #[test]
        fn any_text_is_read_or_ignored(text: String) {
            let _ = decode(Encoding::Base64, Message::Text(text.into()));
        }
    }
}
