//! The HTTP server of exec, attach and port-forward.
//!
//! The CRI answers these calls with a URL. Ours lead to a loopback port and carry a token that cannot be guessed, is good for one
//! request and for a minute: whoever has the CRI socket may hand it on, nobody else can make one up.

mod attach;
mod exec;
mod forward;
mod terminal;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::container::Container;
use crate::sandbox::Sandbox;
use crate::state::Runtime;
use crate::{Error, Result};

const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Requests that were announced and not made yet.
const MOST_WAITING: usize = 1000;

/// What a token is good for.
pub enum Session {
    Exec { container: Arc<Container>, command: Vec<String>, streams: streaming::Streams },
    Attach { container: Arc<Container>, streams: streaming::Streams },
    PortForward { sandbox: Arc<Sandbox>, ports: Vec<u16> },
}

#[derive(Default)]
pub struct Sessions {
    address: OnceLock<SocketAddr>,
    waiting: Mutex<HashMap<String, (Instant, Session)>>,
}

impl Sessions {
    /// The URL at which the session is served, once.
    pub fn offer(&self, session: Session) -> Result<String> {
        let kind = match session {
            Session::Exec { .. } => "exec",
            Session::Attach { .. } => "attach",
            Session::PortForward { .. } => "portforward",
        };
        let address = self.address.get().ok_or(Error::Unimplemented("streaming before the server runs"))?;
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, (since, _)| since.elapsed() < TOKEN_LIFE);
        if waiting.len() >= MOST_WAITING {
            return Err(Error::FailedPrecondition(
                "too many streaming requests are waiting to be made".into(),
            ));
        }
        waiting.insert(token.clone(), (Instant::now(), session));
        Ok(format!("http://{address}/{kind}/{token}"))
    }

    fn take(&self, path: &str) -> Option<Session> {
        let token = path.rsplit('/').next()?;
        let (since, session) = self.waiting.lock().remove(token)?;
        (since.elapsed() < TOKEN_LIFE).then_some(session)
    }
}

impl Runtime {
    /// Opens the port; returns what serves it.
    pub async fn bind_streaming(&self) -> Result<TcpListener> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener =
            TcpListener::bind(any).await.map_err(Error::io("listen for streaming on", "127.0.0.1"))?;
        let address =
            listener.local_addr().map_err(Error::io("find the address of", "the streaming server"))?;
        self.sessions.address.get_or_init(|| address);
        Ok(listener)
    }

    pub async fn serve_streaming(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        debug!(%error, "streaming connection not accepted");
                        continue;
                    }
                },
            };
            let runtime = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let runtime = runtime.clone();
                    async move { Ok::<_, Infallible>(runtime.stream(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.with_upgrades().await {
                    debug!(%error, "streaming connection ended");
                }
            });
        }
    }

    async fn stream(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(session) = self.sessions.take(request.uri().path()) else {
            return refuse(StatusCode::NOT_FOUND, "no such streaming request, or it was made already");
        };
        let answer = match session {
            Session::Exec { container, command, streams } => {
                streaming::remote_command(request, streams).map(|(response, remote)| {
                    tokio::spawn(exec::serve(self, container, command, streams, remote));
                    response
                })
            }
            Session::Attach { container, streams } => {
                streaming::remote_command(request, streams).map(|(response, remote)| {
                    tokio::spawn(attach::serve(container, streams, remote));
                    response
                })
            }
            Session::PortForward { sandbox, ports } => forward::answer(sandbox, ports, request).await,
        };
        answer.unwrap_or_else(|rejection| refuse(rejection.status(), &rejection.to_string()))
    }
}

fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(message.to_owned())));
    *response.status_mut() = status;
    response
}
