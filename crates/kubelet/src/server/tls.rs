//! The listener: TLS with client certificates of the cluster's authority, asked for and not required.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{Server, auth, routes};

const HANDSHAKE: Duration = Duration::from_secs(10);

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot read {path} for the kubelet's API: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("cannot use the certificate and key of the kubelet's API: {0}")]
    Tls(String),
    #[error("cannot listen on {address} for the kubelet's API: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
}

fn acceptor(server: &Server) -> Result<TlsAcceptor, ServeError> {
    let options = &server.ctx.options;
    let unreadable = |path: &PathBuf, reason: String| ServeError::File { path: path.clone(), reason };
    let certificates = |path: &PathBuf| -> Result<Vec<CertificateDer<'static>>, ServeError> {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error: rustls_pki_types::pem::Error| unreadable(path, error.to_string()))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = |error: &dyn std::fmt::Display| ServeError::Tls(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?;
    let builder = if options.client_ca.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&options.client_ca)? {
            roots.add(certificate).map_err(|error| unreadable(&options.client_ca, error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| tls(&error))?;
        builder.with_client_cert_verifier(verifier)
    };
    let own = if options.tls_cert.as_os_str().is_empty() {
        let current = crate::identity::Pair::serving(&options.cert_dir).current();
        Serving::new(current.clone(), current)
    } else {
        Serving::new(options.tls_cert.clone(), options.tls_key.clone())
    };
    // A certificate that is asked for may come later; one that is given has to be there.
    if !options.tls_cert.as_os_str().is_empty() {
        own.read().map_err(|reason| unreadable(&options.tls_cert, reason))?;
    }
    let mut config = builder.with_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificate in a file, as it is when somebody connects: it may have been renewed.
#[derive(Debug)]
struct Serving {
    certificate: PathBuf,
    key: PathBuf,
    /// With when the file was written.
    last: Mutex<Option<(SystemTime, Arc<CertifiedKey>)>>,
}

impl Serving {
    fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, last: Mutex::default() }
    }

    fn read(&self) -> Result<Arc<CertifiedKey>, String> {
        let meta = std::fs::metadata(&self.certificate).map_err(|error| error.to_string())?;
        let written = meta.modified().map_err(|error| error.to_string())?;
        let mut last = self.last.lock();
        if let Some((at, known)) = &*last
            && *at == written
        {
            return Ok(known.clone());
        }
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect);
        let chain = chain.map_err(|error: rustls_pki_types::pem::Error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| format!("its key {}: {error}", self.key.display()))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
        let fresh = Arc::new(CertifiedKey::new(chain, key));
        *last = Some((written, fresh.clone()));
        Ok(fresh)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A file that is just being replaced: the one before is good for a while yet.
        self.read().ok().or_else(|| self.last.lock().as_ref().map(|(_, known)| known.clone()))
    }
}

/// Serves until `shutdown`.
pub async fn serve(server: Server, shutdown: CancellationToken) -> Result<(), ServeError> {
    let acceptor = acceptor(&server)?;
    let address = server.ctx.options.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    info!(%address, "serving the kubelet's API");
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (server, acceptor, shutdown) = (server.clone(), acceptor.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        result = connection(server, acceptor, stream) => if let Err(error) = result {
                            debug!(%peer, %error, "connection ended");
                        }
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: give others time to close theirs.
                debug!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(server: Server, acceptor: TlsAcceptor, stream: TcpStream) -> Result<(), super::BoxError> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|certificate| auth::User::of_certificate(certificate));
    let service = service_fn(move |request| {
        let (server, user) = (server.clone(), user.clone());
        async move { Ok::<_, std::convert::Infallible>(routes::handle(server, user, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await
}
