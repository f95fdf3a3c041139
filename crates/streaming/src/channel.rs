//! One stream of a multiplexed connection, as an ordinary reader and writer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// How many pieces wait in one direction of one stream before the other side has to wait.
pub(crate) const QUEUE: usize = 64;
/// The largest piece written at once.
const PIECE: usize = 32 * 1024;

/// What a transport's writer is to send, in this order.
pub(crate) enum Frame {
    /// Bytes of a stream.
    Data { stream: u32, bytes: Bytes },
    /// A stream's end in our direction.
    End { stream: u32 },
    /// A stream that we open (SPDY).
    Open { stream: u32, headers: Vec<(&'static str, String)> },
    /// The peer's stream is accepted (SPDY).
    Accept { stream: u32 },
    /// The peer's stream is not accepted (SPDY).
    Refuse { stream: u32 },
    /// The answer to a ping (SPDY).
    Pong { id: u32 },
    /// The end of the connection.
    Close,
}

/// What the peer sends on a stream.
pub struct Input {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Input {
    pub(crate) fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, current: Bytes::new() }
    }

    /// The next piece as it came, or nothing at the end.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => self.current = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current.split_to(n));
        Poll::Ready(Ok(()))
    }
}

/// What is sent to the peer on a stream. `shutdown` ends the stream, not the connection.
#[derive(Clone)]
pub struct Output {
    stream: u32,
    frames: PollSender<Frame>,
}

impl Output {
    pub(crate) fn new(stream: u32, frames: mpsc::Sender<Frame>) -> Self {
        Self { stream, frames: PollSender::new(frames) }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>, frame: impl FnOnce(u32) -> Frame) -> Poll<io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.frames.poll_reserve(cx)).map_err(gone)?;
        Poll::Ready(self.frames.send_item(frame(self.stream)).map_err(gone))
    }
}

impl AsyncWrite for Output {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let piece = &buf[..buf.len().min(PIECE)];
        let frame = |stream| Frame::Data { stream, bytes: Bytes::copy_from_slice(piece) };
        ready!(self.poll_frame(cx, frame))?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_frame(cx, |stream| Frame::End { stream })
    }
}
