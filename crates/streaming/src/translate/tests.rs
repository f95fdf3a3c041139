//! A WebSocket client, a translator, and a peer that refuses everything but SPDY, over HTTP in memory.

use std::convert::Infallible;

use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::{port_forward, remote_command};

type Body = Full<bytes::Bytes>;

/// A connection to a server that answers with `serve`.
async fn connected<S, F>(serve: S) -> SendRequest<Empty<bytes::Bytes>>
where
    S: Fn(Request<Incoming>) -> F + Send + Copy + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let (client, server) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(move |request| async move { Ok::<_, Infallible>(serve(request).await) });
        let server =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
        // It ends when the test does.
        let _ = server.with_upgrades().await;
    });
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

fn refusal(code: StatusCode, text: &'static str) -> Answer {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response
}

/// Speaks SPDY alone: to exec, of a process that says what it hears and ends with 3; to port-forward, of an echo.
async fn kubelet(request: Request<Incoming>) -> Answer {
    if request.headers().get(UPGRADE) != Some(&HeaderValue::from_static("SPDY/3.1")) {
        return refusal(StatusCode::FORBIDDEN, "only SPDY is spoken here");
    }
    match request.uri().path() {
        path @ ("/exec" | "/terminal") => {
            let tty = path == "/terminal";
            let streams = Streams { stdin: true, stdout: true, stderr: false, tty };
            let (answer, begun) = remote_command(request, streams).unwrap();
            tokio::spawn(async move {
                let mut process = begun.await.unwrap();
                let (mut stdin, mut stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
                tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
                process.exit.send(Exit::Code(3)).await;
            });
            answer
        }
        "/forward" => {
            let (answer, begun) = port_forward(request, &[]).unwrap();
            tokio::spawn(async move {
                let mut forwards = begun.await.unwrap();
                let mut forward = forwards.recv().await.unwrap();
                let mut heard = [0; 5];
                forward.read_exact(&mut heard).await.unwrap();
                forward
                    .write_all(format!("{} at {}", str::from_utf8(&heard).unwrap(), forward.port).as_bytes())
                    .await
                    .unwrap();
                forward.finish().await;
            });
            answer
        }
        _ => refusal(StatusCode::NOT_FOUND, "container not found"),
    }
}

/// Asks the kubelet in SPDY.
async fn ask(path: &str, protocols: &[&'static str]) -> Result<SpdyPeer<TokioIo<Upgraded>>, Value> {
    let mut request = Request::post(path).header(CONNECTION, "Upgrade").header(UPGRADE, "SPDY/3.1");
    for protocol in protocols {
        request = request.header("x-stream-protocol-version", *protocol);
    }
    let mut answer =
        connected(kubelet).await.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    if answer.status() != 101 {
        return Err(Exit::Error(answer.status().to_string()).status());
    }
    let protocol = answer.headers()["x-stream-protocol-version"].to_str().unwrap().to_owned();
    Ok(SpdyPeer { io: TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap()), protocol })
}

async fn translator(request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let forward = path == "/forward";
    assert!(translated(request.headers(), forward));
    if forward {
        let peer = ask(&path, protocols::PORT_FORWARD).await.unwrap();
        let (answer, carry) = translate_port_forward(request, peer.io).unwrap();
        tokio::spawn(carry);
        return answer;
    }
    let stderr = path == "/terminal";
    let streams = Streams { stdin: true, stdout: true, stderr, tty: false };
    let peer = async move { ask(&path, protocols::REMOTE_COMMAND).await };
    let (answer, carry) = translate_remote_command(request, streams, peer).unwrap();
    tokio::spawn(carry);
    answer
}

/// A WebSocket of this protocol to the translator.
async fn websocket_to(path: &str, protocol: &'static str) -> TokioIo<Upgraded> {
    let request = Request::get(path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol)
        .body(Empty::new())
        .unwrap();
    let mut answer = connected(translator).await.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
    TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap())
}

/// What came on stdout, and the last word.
async fn exec(path: &str, input: &[&[u8]]) -> (String, Value) {
    let io = websocket_to(path, "v5.channel.k8s.io").await;
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    for message in input {
        socket.send(Message::binary(message.to_vec())).await.unwrap();
    }
    let (mut output, mut status) = (String::new(), Value::Null);
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(message) = message else { continue };
        match message.split_first() {
            Some((&STDOUT, data)) => output.push_str(str::from_utf8(data).unwrap()),
            Some((&ERROR, data)) => status = serde_json::from_slice(data).unwrap(),
            _ => {}
        }
    }
    (output, status)
}

#[tokio::test]
async fn channels_become_streams() {
    let (output, status) = exec("/exec", &[b"\0hel", b"\0lo", &[255, STDIN]]).await;
    assert_eq!(output, "hello");
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
}

#[tokio::test]
async fn a_terminal_is_there_for_clients_that_have_none() {
    let (output, _) = exec("/terminal", &[b"\0hello", &[255, STDIN]]).await;
    assert_eq!(output, "hello");
}

#[tokio::test]
async fn what_keeps_a_client_from_the_process_is_told() {
    let (output, status) = exec("/none", &[]).await;
    assert_eq!(output, "");
    assert_eq!(status["message"], "Internal error occurred: 404 Not Found");
}

#[tokio::test]
async fn forwards_are_unwrapped() {
    let io = websocket_to("/forward", "SPDY/3.1+portforward.k8s.io").await;
    let client = websocket::tunnel_as(io, Role::Client);
    let of = |kind: &str| {
        vec![("streamtype", kind.to_owned()), ("port", "80".to_owned()), ("requestid", "0".to_owned())]
    };
    let (streams, _connection) = spdy::connect(client, vec![of("error"), of("data")]).await;
    let [_error, mut data] = streams.try_into().ok().unwrap();
    data.output.write_all(b"hello").await.unwrap();
    let mut heard = String::new();
    data.input.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello at 80");
}

#[test]
fn only_the_newest_protocols_are_translated() {
    let check = |upgrade: &'static str, protocols: &'static str, port_forward: bool, expected: bool| {
        let mut headers = HeaderMap::new();
        headers.append("upgrade", HeaderValue::from_static(upgrade));
        headers.append("sec-websocket-protocol", HeaderValue::from_static(protocols));
        headers.append("x-stream-protocol-version", HeaderValue::from_static("v5.channel.k8s.io"));
        assert_eq!(translated(&headers, port_forward), expected, "{upgrade} {protocols}");
    };
    check("websocket", "v5.channel.k8s.io, v4.channel.k8s.io", false, true);
    check("websocket", "v4.channel.k8s.io", false, false);
    check("SPDY/3.1", "", false, false);
    check("websocket", "SPDY/3.1+portforward.k8s.io", true, true);
    check("websocket", "v4.channel.k8s.io", true, false);
}

#[test]
fn ends_are_told_as_a_status() {
    let check = |told: &str, as_status: bool, expected: (&str, &str)| {
        let status = status(told.as_bytes(), as_status);
        let message = status["message"].as_str().unwrap_or_default();
        assert_eq!((status["status"].as_str().unwrap_or_default(), message), expected, "{told}");
    };
    check(r#"{"status":"Success"}"#, true, ("Success", ""));
    let lost = "Internal error occurred: the connection to the node ended before the process did";
    check("", true, ("Failure", lost));
    check("", false, ("Success", ""));
    check("exit 1", false, ("Failure", "Internal error occurred: exit 1"));
}
