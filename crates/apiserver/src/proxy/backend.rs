//! Connections to the far ends of relayed requests.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::target::{Scheme, Target};
use crate::config::Config;
use crate::server::body::RequestBody;

/// Until a connection is there; what follows takes as long as it takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The files that identify this server to kubelets, or kubelets to it, are no good.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    #[error("cannot read {path} for connections to kubelets: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("the client certificate {path} for connections to kubelets is not usable: {source}")]
    Certificate { path: PathBuf, source: rustls::Error },
    #[error("TLS for connections to kubelets: {0}")]
    Tls(#[from] rustls::Error),
}

/// A far end could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("dial tcp {address}: {}", told(source))]
    Connect { address: String, source: io::Error },
    #[error("dial tcp {address}: i/o timeout")]
    Timeout { address: String },
    #[error("{address} is not a name that certificates have")]
    Name { address: String },
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// The commonest failures in the words that everyone knows.
pub fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// Opens connections.
pub struct Connector {
    kubelet: TlsConnector,
    known_kubelet: TlsConnector,
    anyone: TlsConnector,
}

impl Connector {
    pub fn new(config: &Config) -> Result<Self, ConnectorError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let unverified = Arc::new(Unverified(provider.clone()));
        let anyone =
            builder()?.dangerous().with_custom_certificate_verifier(unverified.clone()).with_no_client_auth();
        let certificates = certificates(&config.kubelet_client_cert)?;
        let kubelet = |authority: &Option<PathBuf>| -> Result<TlsConnector, ConnectorError> {
            let builder = match authority {
                Some(path) => builder()?.with_root_certificates(roots(path)?),
                None => builder()?.dangerous().with_custom_certificate_verifier(unverified.clone()),
            };
            let key = PrivateKeyDer::from_pem_file(&config.kubelet_client_key)
                .map_err(|error| file(&config.kubelet_client_key, error))?;
            let config = builder.with_client_auth_cert(certificates.clone(), key).map_err(|source| {
                ConnectorError::Certificate { path: config.kubelet_client_cert.clone(), source }
            })?;
            Ok(TlsConnector::from(Arc::new(config)))
        };
        let known = config.kubelet_ca.clone().or_else(|| config.kubelet_serving_ca.clone());
        Ok(Self {
            kubelet: kubelet(&config.kubelet_ca)?,
            known_kubelet: kubelet(&known)?,
            anyone: TlsConnector::from(Arc::new(anyone)),
        })
    }

    /// Sends a request over a connection of its own, which is up for an upgrade.
    pub async fn send(
        &self,
        target: &Target,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, BackendError> {
        let address = authority(target);
        let connecting = async {
            let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
            // Interactive streams are made of tiny packets.
            tcp.set_nodelay(true)?;
            io::Result::Ok(tcp)
        };
        let failed = |source| BackendError::Connect { address: address.clone(), source };
        let late = |_| BackendError::Timeout { address: address.clone() };
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(late)?.map_err(failed)?;
        let tls = match target.scheme {
            Scheme::Http => return exchange(tcp, request).await,
            Scheme::Https => &self.anyone,
            Scheme::Kubelet => &self.kubelet,
            Scheme::KnownKubelet => &self.known_kubelet,
        };
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| BackendError::Name { address: address.clone() })?;
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, tls.connect(name, tcp))
            .await
            .map_err(late)?
            .map_err(failed)?;
        exchange(stream, request).await
    }
}

/// `host:port`, for the Host header and for messages.
pub fn authority(target: &Target) -> String {
    match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    }
}

async fn exchange<S>(stream: S, request: Request<RequestBody>) -> Result<Response<Incoming>, BackendError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "the connection of a relayed request ended");
        }
    });
    Ok(sender.send_request(request).await?)
}

fn file(path: &Path, error: impl ToString) -> ConnectorError {
    ConnectorError::File { path: path.to_owned(), reason: error.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectorError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| file(path, error))
}

fn roots(path: &Path) -> Result<RootCertStore, ConnectorError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| file(path, error))?;
    }
    Ok(roots)
}

/// Accepts any certificate: for ports of pods, and for kubelets where no CA was configured.
#[derive(Debug)]
pub struct Unverified(Arc<CryptoProvider>);

impl Unverified {
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(provider)
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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
