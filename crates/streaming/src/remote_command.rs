//! The standard streams of one process: what `exec`, `attach` and `cp` are made of.

use std::time::Duration;

use bytes::BytesMut;
use http::Request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::channel::{Frame, Input, Output};
use crate::upgrade::{Answer, Transport, agree};
use crate::websocket::{self, Encoding};
use crate::{Error, Rejection, spdy};

pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const RESIZE: u8 = 4;

/// How long a client has to open the streams that it asked for.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// A terminal's size takes some thirty bytes.
const MAX_RESIZE: usize = 1024;

/// Which streams the request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The streams of a process, to be connected with it.
pub struct RemoteCommand {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    /// The sizes of the client's terminal, the first one soon after the beginning.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
    pub exit: ExitSender,
    /// Cancelled when the client is gone.
    pub closed: CancellationToken,
}

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// It could not be run, or was lost.
    Error(String),
}

/// How the protocol tells the end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Telling {
    /// As text, and nothing on success.
    Text,
    /// As a `Status` object.
    Status,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Protocol {
    telling: Telling,
    encoding: Encoding,
}

const fn protocol(telling: Telling, encoding: Encoding) -> Protocol {
    Protocol { telling, encoding }
}

const PROTOCOLS: &[(Transport, &str, Protocol)] = &[
    (Transport::Spdy, "v4.channel.k8s.io", protocol(Telling::Status, Encoding::Binary)),
    (Transport::Spdy, "v3.channel.k8s.io", protocol(Telling::Text, Encoding::Binary)),
    (Transport::Spdy, "v2.channel.k8s.io", protocol(Telling::Text, Encoding::Binary)),
    (Transport::Spdy, "channel.k8s.io", protocol(Telling::Text, Encoding::Binary)),
    (Transport::Spdy, "", protocol(Telling::Text, Encoding::Binary)),
    (Transport::WebSocket, "v5.channel.k8s.io", protocol(Telling::Status, Encoding::Binary)),
    (Transport::WebSocket, "v4.channel.k8s.io", protocol(Telling::Status, Encoding::Binary)),
    (Transport::WebSocket, "v4.base64.channel.k8s.io", protocol(Telling::Status, Encoding::Base64)),
    (Transport::WebSocket, "channel.k8s.io", protocol(Telling::Text, Encoding::Binary)),
    (Transport::WebSocket, "base64.channel.k8s.io", protocol(Telling::Text, Encoding::Base64)),
    (Transport::WebSocket, "", protocol(Telling::Text, Encoding::Binary)),
];

/// Grants the upgrade of an exec or attach request. Send the response; the future then gives the streams.
pub fn remote_command<B>(
    mut request: Request<B>,
    streams: Streams,
) -> Result<(Answer, impl Future<Output = Result<RemoteCommand, Error>> + Send), Rejection>
where
    B: Send,
{
    let agreed = agree(request.headers(), PROTOCOLS)?;
    let upgrade = hyper::upgrade::on(&mut request);
    drop(request);
    let streams = Streams {
        // A terminal has one output.
        stderr: streams.stderr && !streams.tty,
        ..streams
    };
    let begin = async move {
        let io = TokioIo::new(upgrade.await?);
        match agreed.transport {
            Transport::Spdy => over_spdy(io, streams, agreed.protocol).await,
            Transport::WebSocket => Ok(over_websocket(io, streams, agreed.protocol).await),
        }
    };
    Ok((agreed.response, begin))
}

async fn over_websocket(io: TokioIo<Upgraded>, streams: Streams, protocol: Protocol) -> RemoteCommand {
    let mut connection = websocket::serve(io, protocol.encoding, &[STDIN, RESIZE]).await;
    let output = |channel: u8| Output::new(channel.into(), connection.frames.clone());
    let mut stdout = streams.stdout.then(|| output(STDOUT));
    let mut stderr = streams.stderr.then(|| output(STDERR));
    // An empty message tells clients that wait for one that the connection stands.
    if let Some(first) = stdout.as_mut().or(stderr.as_mut()) {
        let _ = first.write(&[]).await;
    }
    let stdin = connection.inputs.remove(&STDIN);
    let resize = connection.inputs.remove(&RESIZE);
    RemoteCommand {
        stdin: stdin.filter(|_| streams.stdin),
        stdout,
        stderr,
        resize: resize.filter(|_| streams.tty).map(sizes),
        exit: ExitSender {
            output: output(ERROR),
            others: Vec::new(),
            telling: protocol.telling,
            frames: connection.frames.clone(),
        },
        closed: connection.closed,
    }
}

async fn over_spdy(
    io: TokioIo<Upgraded>,
    streams: Streams,
    protocol: Protocol,
) -> Result<RemoteCommand, Error> {
    let mut connection = spdy::serve(io);
    let (mut stdin, mut stdout, mut stderr, mut error, mut resize) = (None, None, None, None, None);
    let complete = async {
        loop {
            // Every stream that the client asked for will come; resizing only with newer clients, and not from one
            // that knows nothing of the terminal: it opens a stream for errors, which stays empty.
            let wanted = [
                (streams.stdin, stdin.is_some()),
                (streams.stdout, stdout.is_some()),
                (streams.stderr, stderr.is_some()),
                (true, error.is_some()),
                (streams.tty && protocol.telling == Telling::Status && stderr.is_none(), resize.is_some()),
            ];
            if wanted.iter().all(|(wanted, there)| *there || !wanted) {
                return Ok::<(), Error>(());
            }
            let stream = connection.streams.recv().await.ok_or(Error::Ended)?;
            match stream.headers.get("streamtype") {
                Some("stdin") => stdin = Some(stream),
                Some("stdout") => stdout = Some(stream.output),
                Some("stderr") => stderr = Some(stream.output),
                Some("error") => error = Some(stream.output),
                Some("resize") => resize = Some(stream.input),
                _ => {}
            }
        }
    };
    tokio::time::timeout(STREAMS_TIMEOUT, complete).await.map_err(|_| Error::Timeout)??;
    let mut others: Vec<Output> = [&stdout, &stderr].into_iter().flatten().cloned().collect();
    let stdin = stdin.map(|stdin: spdy::Stream| {
        others.push(stdin.output);
        stdin.input
    });
    Ok(RemoteCommand {
        stdin: stdin.filter(|_| streams.stdin),
        stdout: stdout.filter(|_| streams.stdout),
        stderr: stderr.filter(|_| streams.stderr),
        resize: resize.filter(|_| streams.tty).map(sizes),
        exit: ExitSender {
            output: error.ok_or(Error::Ended)?,
            others,
            telling: protocol.telling,
            frames: connection.frames,
        },
        closed: connection.closed,
    })
}

/// The terminal sizes that arrive on a stream, as JSON objects one after the other.
fn sizes(mut input: Input) -> mpsc::Receiver<TerminalSize> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut waiting = BytesMut::new();
        while let Some(piece) = input.piece().await {
            waiting.extend_from_slice(&piece);
            let mut parser = serde_json::Deserializer::from_slice(&waiting).into_iter();
            let mut last = None;
            while let Some(Ok(size)) = parser.next() {
                last = Some(size);
            }
            let used = parser.byte_offset().min(waiting.len());
            let _ = waiting.split_to(used);
            if waiting.len() > MAX_RESIZE {
                return;
            }
            if let Some(size) = last
                && sender.send(size).await.is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// Tells the client how it ended, then closes the connection. What was written to the outputs before arrives before.
pub struct ExitSender {
    output: Output,
    others: Vec<Output>,
    telling: Telling,
    frames: mpsc::Sender<Frame>,
}

impl ExitSender {
    pub async fn send(mut self, exit: Exit) {
        let message = match self.telling {
            Telling::Status => exit.status().to_string(),
            Telling::Text => exit.text(),
        };
        // A client that is gone needs no message.
        if !message.is_empty() {
            let _ = self.output.write_all(message.as_bytes()).await;
        }
        for mut output in self.others.into_iter().chain([self.output]) {
            let _ = output.shutdown().await;
        }
        let _ = self.frames.send(Frame::Close).await;
    }
}

impl Exit {
    fn text(&self) -> String {
        match self {
            Exit::Code(0) => String::new(),
            Exit::Code(code) => {
                format!(
                    "command terminated with non-zero exit code: error executing command, exit code {code}"
                )
            }
            Exit::Error(message) => message.clone(),
        }
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        match self {
            Exit::Code(0) => json!({"metadata": {}, "status": "Success"}),
            Exit::Code(code) => json!({
                "metadata": {},
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": self.text(),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Exit::Error(message) => json!({
                "metadata": {},
                "status": "Failure",
                "reason": "InternalError",
                "message": format!("Internal error occurred: {message}"),
                "details": {"causes": [{"message": message}]},
                "code": 500,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn sizes_are_read_however_they_are_cut() {
        let (sender, receiver) = mpsc::channel(8);
        let mut sizes = sizes(Input::new(receiver));
        for piece in ["{\"Width\":8", "0,\"Height\":24}\n", "{\"Width\":132,\"Height\":43}"] {
            sender.send(Bytes::from(piece)).await.unwrap();
        }
        assert_eq!(sizes.recv().await, Some(TerminalSize { width: 80, height: 24 }));
        assert_eq!(sizes.recv().await, Some(TerminalSize { width: 132, height: 43 }));
        drop(sender);
        assert_eq!(sizes.recv().await, None);
    }
}
