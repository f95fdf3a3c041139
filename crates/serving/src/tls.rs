//! The listener: TLS with client certificates of the cluster's authority, asked for and not required.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
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
use tracing::debug;

use crate::user::User;

const HANDSHAKE: Duration = Duration::from_secs(10);

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// HTTPS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot read {path} for TLS: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("cannot use the certificate and key for TLS: {0}")]
    Tls(String),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// A server's side of TLS. Whom it trusts may change while it serves.
pub struct Tls {
    certificate: Arc<dyn ResolvesServerCert>,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Serves with `certificate`, and knows clients by certificates that one of `roots` has signed.
    pub fn new(
        certificate: Arc<dyn ResolvesServerCert>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, ServeError> {
        let config = config(certificate.clone(), roots)?;
        Ok(Self { certificate, config: ArcSwap::from_pointee(config) })
    }

    /// New connections are judged by these from now on.
    pub fn trust(&self, roots: Vec<CertificateDer<'static>>) -> Result<(), ServeError> {
        self.config.store(Arc::new(config(self.certificate.clone(), roots)?));
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

fn config(
    certificate: Arc<dyn ResolvesServerCert>,
    roots: Vec<CertificateDer<'static>>,
) -> Result<ServerConfig, ServeError> {
    let tls = |error: &dyn std::fmt::Display| ServeError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?;
    let builder = if roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(|error| ServeError::Tls(format!("an authority of clients: {error}")))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| tls(&error))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates in a file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(
        |error: rustls_pki_types::pem::Error| ServeError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        },
    )
}

/// The certificate in a file, as it is when somebody connects: it may have been renewed.
#[derive(Debug)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// With when the file was written.
    last: Mutex<Option<(SystemTime, Arc<CertifiedKey>)>>,
}

impl Files {
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, last: Mutex::default() }
    }

    /// Whether it is there and good.
    pub fn check(&self) -> Result<(), ServeError> {
        let unreadable = |reason| ServeError::File { path: self.certificate.clone(), reason };
        self.read().map(drop).map_err(unreadable)
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        // A file that is just being replaced: the one before is good for a while yet.
        self.read().ok().or_else(|| self.last.lock().as_ref().map(|(_, known)| known.clone()))
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
        let fresh = Arc::new(certified(chain, &key)?);
        *last = Some((written, fresh.clone()));
        Ok(fresh)
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

/// The first that is there: a certificate that is asked for and may come later, and what is served until then.
#[derive(Debug)]
pub struct FirstOf(pub Vec<Files>);

impl ResolvesServerCert for FirstOf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find_map(Files::current)
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, String> {
    let key = rustls::crypto::ring::sign::any_supported_type(key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(chain, key))
}

/// A certificate of the process's own, for as long as it runs.
#[derive(Debug)]
pub struct Ephemeral(Arc<CertifiedKey>);

impl Ephemeral {
    pub fn new(leaf: &pki::Leaf) -> Result<Self, ServeError> {
        let made = leaf.self_signed().map_err(|error| ServeError::Tls(error.to_string()))?;
        let bad = |error: rustls_pki_types::pem::Error| ServeError::Tls(error.to_string());
        let certificate = CertificateDer::from_pem_slice(made.certificate.as_bytes()).map_err(bad)?;
        let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).map_err(bad)?;
        Ok(Self(Arc::new(certified(vec![certificate], &key).map_err(ServeError::Tls)?)))
    }
}

impl ResolvesServerCert for Ephemeral {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// Answers every request by `handle`, which is told whom the client's certificate names, until `shutdown`.
pub async fn serve<H, F, B>(listener: TcpListener, tls: Arc<Tls>, handle: H, shutdown: CancellationToken)
where
    H: Fn(Option<User>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (handle, acceptor, shutdown) = (handle.clone(), tls.acceptor(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        result = connection(handle, acceptor, stream) => if let Err(error) = result {
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

async fn connection<H, F, B>(handle: H, acceptor: TlsAcceptor, stream: TcpStream) -> Result<(), BoxError>
where
    H: Fn(Option<User>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|certificate| User::of_certificate(certificate));
    let service = service_fn(move |request| {
        let answer = handle(user.clone(), request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await
}
