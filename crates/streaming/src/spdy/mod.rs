//! SPDY/3.1, as much of it as `kubectl` and client-go speak: the client opens streams, both sides send data. Here are
//! both ends: [`serve`], and [`connect`] for peers that speak nothing else.
//!
//! One task reads frames and hands their contents to the streams; another writes what the streams send. Flow control
//! windows are not used by these peers: a stream that is not read makes the connection wait.

mod frame;
mod headers;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::channel::{Frame, Input, Output, QUEUE};
use frame::{Control, Header};
use headers::{Headers, HeadersReader, HeadersWriter};

/// More streams than any client has open at once.
const MAX_STREAMS: usize = 1024;
/// How long the peer has to close its side once ours is closed.
const LINGER: Duration = Duration::from_secs(5);
/// Data frames may be 16 MiB long; they are passed on in pieces of this size.
const PIECE: usize = 32 * 1024;

/// A stream that the peer opened, or that we did: then without headers.
pub(crate) struct Stream {
    pub headers: Headers,
    pub input: Input,
    pub output: Output,
}

/// A connection whose streams arrive on `streams`.
pub(crate) struct Connection {
    pub streams: mpsc::Receiver<Stream>,
    pub frames: mpsc::Sender<Frame>,
    /// Cancelled when the peer is gone.
    pub closed: CancellationToken,
}

/// Begins to serve SPDY on an upgraded connection.
pub(crate) fn serve(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Connection {
    let (frames, outgoing) = mpsc::channel(QUEUE);
    run(io, HashMap::new(), frames, outgoing)
}

/// Begins to speak SPDY as a client, and opens a stream for each of the headers, in this order.
pub(crate) async fn connect(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    opened: Vec<Vec<(&'static str, String)>>,
) -> (Vec<Stream>, Connection) {
    let (frames, outgoing) = mpsc::channel(QUEUE.max(opened.len()));
    let (mut inputs, mut streams) = (HashMap::new(), Vec::new());
    // A client's streams have odd numbers.
    for (stream, headers) in (1..).step_by(2).zip(opened) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        inputs.insert(stream, sender);
        streams.push(Stream {
            headers: Headers::default(),
            input: Input::new(receiver),
            output: Output::new(stream, frames.clone()),
        });
        // There is room for all of them.
        let _ = frames.send(Frame::Open { stream, headers }).await;
    }
    (streams, run(io, inputs, frames, outgoing))
}

fn run(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    inputs: HashMap<u32, mpsc::Sender<Bytes>>,
    frames: mpsc::Sender<Frame>,
    outgoing: mpsc::Receiver<Frame>,
) -> Connection {
    let (read, write) = tokio::io::split(io);
    let (accepted, streams) = mpsc::channel(QUEUE);
    let closed = CancellationToken::new();
    let flushed = CancellationToken::new();
    let reader = Reader {
        io: BufReader::new(read),
        headers: HeadersReader::new(),
        inputs,
        frames: frames.clone(),
        accepted,
    };
    let (reader_closed, reader_flushed) = (closed.clone(), flushed.clone());
    tokio::spawn(async move {
        let linger = async {
            reader_flushed.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            ended = reader.run() => if let Err(error) = ended {
                debug!(%error, "SPDY connection ended");
            },
            () = linger => debug!("SPDY peer did not close its side"),
        }
        reader_closed.cancel();
    });
    tokio::spawn(async move {
        if let Err(error) = write_frames(write, outgoing).await {
            debug!(%error, "cannot write to SPDY connection");
        }
        flushed.cancel();
    });
    Connection { streams, frames, closed }
}

struct Reader<R> {
    io: BufReader<R>,
    headers: HeadersReader,
    /// Where data of each stream goes that may still send some.
    inputs: HashMap<u32, mpsc::Sender<Bytes>>,
    frames: mpsc::Sender<Frame>,
    accepted: mpsc::Sender<Stream>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn run(mut self) -> io::Result<()> {
        loop {
            let mut header = [0; 8];
            match self.io.read_exact(&mut header).await {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            };
            match Header::parse(header)? {
                Header::Data { stream, fin, length } => self.data(stream, fin, length).await?,
                Header::Control { kind, flags, length } => {
                    let mut payload = vec![0; length];
                    self.io.read_exact(&mut payload).await?;
                    if !self.control(Control::parse(kind, flags, &payload)?).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn data(&mut self, stream: u32, fin: bool, mut length: usize) -> io::Result<()> {
        while length > 0 {
            let mut piece = vec![0; length.min(PIECE)];
            self.io.read_exact(&mut piece).await?;
            length -= piece.len();
            if let Some(input) = self.inputs.get(&stream) {
                // An input that nobody reads any more takes what comes and forgets it.
                let _ = input.send(piece.into()).await;
            }
        }
        if fin {
            self.inputs.remove(&stream);
        }
        Ok(())
    }

    /// Returns whether the connection goes on.
    async fn control(&mut self, control: Control<'_>) -> io::Result<bool> {
        match control {
            Control::SynStream { stream, fin, block } => {
                // Also for a stream that is refused: the compression state is the connection's.
                let headers = self.headers.read(block)?;
                self.open(stream, fin, headers).await;
            }
            Control::Headers { block } => {
                self.headers.read(block)?;
            }
            Control::Reset { stream } => {
                self.inputs.remove(&stream);
            }
            Control::Ping { id } => {
                let _ = self.frames.send(Frame::Pong { id }).await;
            }
            Control::GoAway => return Ok(false),
            Control::Other => {}
        }
        Ok(true)
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: Headers) {
        if self.inputs.len() >= MAX_STREAMS || self.inputs.contains_key(&stream) {
            let _ = self.frames.send(Frame::Refuse { stream }).await;
            return;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        if !fin {
            self.inputs.insert(stream, sender);
        }
        let opened =
            Stream { headers, input: Input::new(receiver), output: Output::new(stream, self.frames.clone()) };
        let _ = self.frames.send(Frame::Accept { stream }).await;
        if self.accepted.send(opened).await.is_err() {
            let _ = self.frames.send(Frame::Refuse { stream }).await;
        }
    }
}

async fn write_frames(mut io: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Frame>) -> io::Result<()> {
    let mut headers = HeadersWriter::new();
    while let Some(frame) = frames.recv().await {
        match frame {
            Frame::Data { stream, bytes } => {
                io.write_all(&frame::data(stream, false, bytes.len())).await?;
                io.write_all(&bytes).await?;
            }
            Frame::End { stream } => io.write_all(&frame::data(stream, true, 0)).await?,
            Frame::Open { stream, headers: of } => {
                io.write_all(&frame::syn_stream(stream, &headers.some(&of)?)).await?;
            }
            Frame::Accept { stream } => io.write_all(&frame::syn_reply(stream, &headers.none()?)).await?,
            Frame::Refuse { stream } => io.write_all(&frame::refuse(stream)).await?,
            Frame::Pong { id } => io.write_all(&frame::ping(id)).await?,
            Frame::Close => {
                io.write_all(&frame::go_away()).await?;
                break;
            }
        }
        if frames.is_empty() {
            io.flush().await?;
        }
    }
    io.shutdown().await
}

fn protocol_error(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
