//! Connections, kept by who asked for them: TCP to the right endpoint, then TLS under the right name.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rand::RngExt;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::inside::Inside;
use crate::admission::objects::{Objects, SERVICES, items};
use crate::proxy::backend::told;
use crate::proxy::target::endpoints;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    #[error("{0} is not an address")]
    Address(String),
    #[error("service {0:?} not found")]
    NoService(String),
    #[error("no service port {port} found for service {service:?}")]
    NoPort { service: String, port: u16 },
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    #[error("dial tcp {address}: {}", told(cause))]
    Dial { address: String, cause: io::Error },
    #[error("dial tcp {0}: i/o timeout")]
    Timeout(String),
    #[error("tls: failed to verify certificate: {0}")]
    Tls(io::Error),
}

/// Connects to what URLs name.
#[derive(Clone)]
pub struct Connector {
    objects: Arc<dyn Objects>,
    inside: Inside,
    tls: TlsConnector,
}

impl Connector {
    pub(super) fn new(objects: Arc<dyn Objects>, inside: Inside, tls: rustls::ClientConfig) -> Self {
        Self { objects, inside, tls: TlsConnector::from(Arc::new(tls)) }
    }

    async fn connect(self, uri: Uri) -> Result<Stream, Unreachable> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(443);
        if let Some(connected) = self.inside.connect(&host).await {
            return connected.map(Stream::new).map_err(|cause| Unreachable::Dial { address: host, cause });
        }
        let (address, port) = resolve(&*self.objects, &host, port)?;
        let shown = format!("{address}:{port}");
        let name = ServerName::try_from(host).map_err(|_| Unreachable::Address(shown.clone()))?;
        let connecting = async {
            let tcp = TcpStream::connect((address.as_str(), port))
                .await
                .map_err(|cause| Unreachable::Dial { address: shown.clone(), cause })?;
            tcp.set_nodelay(true).map_err(|cause| Unreachable::Dial { address: shown.clone(), cause })?;
            self.tls.connect(name, tcp).await.map_err(Unreachable::Tls)
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        Ok(Stream::new(stream.map_err(|_| Unreachable::Timeout(shown.clone()))??))
    }
}

/// `name.namespace.svc` is one of the endpoints of that Service; everything else is what it says.
fn resolve(objects: &dyn Objects, host: &str, port: u16) -> Result<(String, u16), Unreachable> {
    let parts: Vec<&str> = host.split('.').collect();
    let &[name, namespace, "svc"] = parts.as_slice() else {
        return Ok((host.to_owned(), port));
    };
    let service =
        objects.get(SERVICES, namespace, name).ok_or_else(|| Unreachable::NoService(name.to_owned()))?;
    if service["spec"]["type"] == "ExternalName" {
        return Ok((service["spec"]["externalName"].as_str().unwrap_or_default().to_owned(), port));
    }
    let of_service = items(&service["spec"]["ports"]).find(|known| known["port"] == port);
    let of_service = of_service.ok_or_else(|| Unreachable::NoPort { service: name.to_owned(), port })?;
    let endpoints = endpoints(objects, namespace, name, of_service["name"].as_str().unwrap_or_default());
    match endpoints.len() {
        0 => Err(Unreachable::NoEndpoints(name.to_owned())),
        count => {
            let chosen = endpoints.into_iter().nth(rand::rng().random_range(0..count));
            chosen.ok_or_else(|| Unreachable::NoEndpoints(name.to_owned()))
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = Unreachable;
    type Future = BoxFuture<'static, Result<Stream, Unreachable>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreachable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection in the form that the client's pool keeps.
pub struct Stream(TokioIo<Box<dyn Duplex>>);

/// TLS to elsewhere, or a pipe within this process.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Stream {
    fn new(connected: impl Duplex + 'static) -> Self {
        Self(TokioIo::new(Box::new(connected)))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
