//! HTTPS: accepting connections, the handshake, HTTP/1.1 or HTTP/2 as the client likes.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::pipeline::{self, Identity, Peer};
use super::unread::Unread;
use super::{StartError, body};
use crate::config::Config;
use crate::state::State;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take for the headers of its next request, and so also how long it may be idle: longer than
/// the 90 seconds that Go's clients keep idle connections, so that none is closed while a request is being sent on it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_HEADER_BYTES: usize = 1 << 20;
const MAX_STREAMS: u32 = 250;
/// How long requests that are under way may go on when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The server's side of TLS, from the files that the configuration names.
pub fn tls(config: &Config) -> Result<Arc<ServerConfig>, StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| StartError::Tls { path: config.tls_cert.clone(), reason: source.to_string() })?;
    let builder = match config.client_ca.is_some() || config.front_proxy_ca.is_some() {
        false => builder.with_no_client_auth(),
        true => builder.with_client_cert_verifier(Arc::new(KeyOnly(provider))),
    };
    let key = PrivateKeyDer::from_pem_file(&config.tls_key)
        .map_err(|error| StartError::Tls { path: config.tls_key.clone(), reason: error.to_string() })?;
    let mut tls = builder
        .with_single_cert(certificates(&config.tls_cert)?, key)
        .map_err(|error| StartError::Tls { path: config.tls_cert.clone(), reason: error.to_string() })?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| StartError::Tls { path: path.to_owned(), reason: error.to_string() })
}

/// Serves connections until `shutdown` and, for those who have not been told yet, a delay longer; then watches end, and
/// other requests may finish for a while.
pub async fn serve(
    state: Arc<State>,
    tls: Arc<ServerConfig>,
    listener: TcpListener,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = GracefulShutdown::new();
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let http = Arc::new(http);
    let stopped = async {
        shutdown.cancelled().await;
        state.set_stopping();
        tokio::time::sleep(state.config.shutdown_delay).await;
    };
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let socket = tokio::select! {
            () = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Out of file descriptors, most likely: others must finish first.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        tokio::spawn(connection(state.clone(), acceptor.clone(), http.clone(), graceful.watcher(), socket));
    }
    drop(listener);
    state.draining.cancel();
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        debug!("connections were still open when the server stopped");
    }
}

async fn connection(
    state: Arc<State>,
    acceptor: TlsAcceptor,
    http: Arc<Builder<TokioExecutor>>,
    graceful: Watcher,
    socket: TcpStream,
) {
    let address = socket.peer_addr().ok().map(|address| address.ip());
    // Small answers must not wait for an acknowledgement.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(%error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            debug!("TLS handshake timed out");
            return;
        }
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let peer = Arc::new(Peer { certificates, address });
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        let identity = Identity::Connection(peer.clone());
        async move {
            let request = request.map(|incoming| body::boxed(Unread::new(incoming)));
            Ok::<_, Infallible>(pipeline::serve(state, identity, request).await)
        }
    });
    let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let connection = graceful.watch(connection.into_owned());
    if let Err(error) = connection.await {
        debug!(%error, "connection ended");
    }
}

/// Accepts every client certificate whose key the client has. Whose it is, authentication finds out, by more than one
/// authority: who brings one that nobody knows may still have a token, and gets an HTTP answer in any case.
#[derive(Debug)]
struct KeyOnly(Arc<CryptoProvider>);

impl ClientCertVerifier for KeyOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
