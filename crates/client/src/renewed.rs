//! A client whose certificate is in a file that somebody renews: each new connection shows the newest one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hyper_rustls::FixedServerNameResolver;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;

#[derive(Debug)]
struct Renewed {
    certificate: PathBuf,
    key: PathBuf,
    /// With when the file was written.
    last: Mutex<Option<(SystemTime, Arc<CertifiedKey>)>>,
}

impl Renewed {
    fn read(&self) -> Option<Arc<CertifiedKey>> {
        let written = std::fs::metadata(&self.certificate).and_then(|meta| meta.modified()).ok()?;
        let mut last = self.last.lock();
        if let Some((at, known)) = &*last
            && *at == written
        {
            return Some(known.clone());
        }
        let chain =
            CertificateDer::pem_file_iter(&self.certificate).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_file(&self.key).ok()?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
        let fresh = Arc::new(CertifiedKey::new(chain, key));
        *last = Some((written, fresh.clone()));
        Some(fresh)
    }
}

impl ResolvesClientCert for Renewed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // A file that is just being replaced: the one before is good for a while yet.
        self.read().or_else(|| self.last.lock().as_ref().map(|(_, known)| known.clone()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client as `config` has it, with the certificate and key of these files.
pub fn client(config: kube::Config, certificate: &Path, key: &Path) -> kube::Result<kube::Client> {
    let mut tls = config.rustls_client_config()?;
    tls.client_auth_cert_resolver = Arc::new(Renewed {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        last: Mutex::default(),
    });
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let named = config.tls_server_name.clone().and_then(|name| ServerName::try_from(name).ok());
    let connector = match named {
        Some(name) => connector.with_server_name_resolver(FixedServerNameResolver::new(name)),
        None => connector,
    };
    let https = connector.enable_http1().enable_http2().wrap_connector(http);
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(tower::BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build(https));
    let namespace = config.default_namespace.clone();
    Ok(kube::Client::new(service, namespace))
}
