//! Exec and attach: the streams of a process over a WebSocket, as `v5.channel.k8s.io` has them.

use anyhow::{Context, Result, bail};
use cri::v1::{AttachRequest, ExecRequest};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::terminal::{Raw, size};
use crate::{Ctr, told};

const PROTOCOL: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

type Sink = SplitSink<WebSocketStream<TcpStream>, Message>;

impl Ctr {
    /// Runs a further process in a container; returns its exit code.
    pub async fn exec(&mut self, wanted: &str, cmd: Vec<String>, stdin: bool, tty: bool) -> Result<i32> {
        let container = self.find(wanted).await?;
        let request = ExecRequest {
            container_id: container.id,
            cmd,
            tty,
            stdin,
            stdout: true,
            stderr: !tty,
            ..Default::default()
        };
        let url = self.runtime.exec(request).await.map_err(told)?.into_inner().url;
        session(&url, stdin, tty).await
    }

    /// Connects with a container's first process until that ends.
    pub(crate) async fn attach(&mut self, id: &str, stdin: bool, tty: bool) -> Result<i32> {
        let request = AttachRequest {
            container_id: id.to_owned(),
            stdin,
            tty,
            stdout: true,
            stderr: !tty,
            ..Default::default()
        };
        let url = self.runtime.attach(request).await.map_err(told)?.into_inner().url;
        session(&url, stdin, tty).await
    }
}

async fn session(url: &str, stdin: bool, tty: bool) -> Result<i32> {
    let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    let address = address.with_context(|| format!("the runtime gives an URL that cannot be used: {url}"))?;
    let mut request = url.replacen("http://", "ws://", 1).into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.context("no session")?;
    let (mut sink, mut source) = socket.split();
    let _raw = tty.then(Raw::enter);
    if tty {
        resize(&mut sink).await?;
    }
    let sending = tokio::spawn(send(sink, stdin, tty));
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let mut code = Ok(0);
    while let Some(message) = source.next().await {
        let bytes = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(_)) | Err(_) => break,
            Ok(_) => continue,
        };
        match bytes.split_first() {
            Some((&STDOUT, data)) => {
                out.write_all(data).await?;
                out.flush().await?;
            }
            Some((&STDERR, data)) => {
                err.write_all(data).await?;
                err.flush().await?;
            }
            Some((&ERROR, data)) if !data.is_empty() => code = exit_code(data),
            _ => {}
        }
    }
    sending.abort();
    code
}

async fn send(mut sink: Sink, stdin: bool, tty: bool) -> Result<()> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; 16 << 10];
    let mut open = stdin;
    loop {
        tokio::select! {
            read = input.read(&mut buffer), if open => {
                let n = read?;
                if n == 0 {
                    open = false;
                    sink.send(Message::binary(vec![CLOSE, STDIN])).await?;
                    continue;
                }
                let mut frame = vec![STDIN];
                frame.extend_from_slice(&buffer[..n]);
                sink.send(Message::binary(frame)).await?;
            }
            signal = resized.recv(), if tty => {
                if signal.is_some() {
                    resize(&mut sink).await?;
                }
            }
            else => std::future::pending::<()>().await,
        }
    }
}

async fn resize(sink: &mut Sink) -> Result<()> {
    let Some((width, height)) = size() else { return Ok(()) };
    let mut frame = vec![RESIZE];
    frame.extend_from_slice(format!(r#"{{"Width":{width},"Height":{height}}}"#).as_bytes());
    Ok(sink.send(Message::binary(frame)).await?)
}

/// Of the Status that ends a session.
fn exit_code(status: &[u8]) -> Result<i32> {
    let status: serde_json::Value = serde_json::from_slice(status).context("no status at the end")?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let code = causes.filter(|c| c["reason"] == "ExitCode").find_map(|c| c["message"].as_str()?.parse().ok());
    match code {
        Some(code) => Ok(code),
        None => bail!("{}", status["message"].as_str().unwrap_or("the session failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let failed = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
        for (text, expected) in [
            (r#"{"status":"Success"}"#, Some(0)),
            (failed, Some(42)),
            (r#"{"status":"Failure","message":"x"}"#, None),
            ("", None),
        ] {
            assert_eq!(exit_code(text.as_bytes()).ok(), expected, "{text}");
        }
    }
}
