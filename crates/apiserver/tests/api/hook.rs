//! A webhook: an HTTPS server whose answers the test decides.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What it answers to the `request` of a review.
type Decide = dyn Fn(&Value) -> Decision + Send + Sync;

pub enum Decision {
    /// The members of `response`, besides the uid.
    Answer(Value),
    /// Nothing, ever.
    Silence,
    Garbage,
}

pub fn allowed() -> Decision {
    Decision::Answer(json!({"allowed": true}))
}

pub fn refused(message: &str, code: u16) -> Decision {
    Decision::Answer(json!({"allowed": false, "status": {"message": message, "code": code}}))
}

pub fn patched(patch: &Value) -> Decision {
    let patch = STANDARD.encode(patch.to_string());
    Decision::Answer(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

/// Everything that it has been asked, and where it is.
pub struct Webhook {
    pub port: u16,
    bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
    _files: TempDir,
}

impl Webhook {
    pub async fn start(decide: impl Fn(&Value) -> Decision + Send + Sync + 'static) -> Self {
        let files = tempfile::tempdir().unwrap();
        let authority = pki::Authority::ensure(files.path(), "hook", "hook").unwrap();
        let leaf = pki::Leaf {
            common_name: "hook".to_owned(),
            dns_names: vec!["hook.default.svc".to_owned()],
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            server: true,
            ..pki::Leaf::default()
        };
        let issued = authority.issue(&leaf).unwrap();
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(issued.certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        // On all addresses: a Service cannot have one of the loopback network.
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let decide: Arc<Decide> = Arc::new(decide);
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, decide, seen) = (acceptor.clone(), decide.clone(), seen.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, decide.clone(), seen.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let bundle = STANDARD.encode(authority.certificate());
        Self { port, bundle, asked, _files: files }
    }

    pub fn client_config(&self) -> Value {
        json!({"url": format!("https://127.0.0.1:{}/path", self.port), "caBundle": self.bundle})
    }

    pub fn service_config(&self) -> Value {
        json!({"service": {"namespace": "default", "name": "hook", "path": "/path"}, "caBundle": self.bundle})
    }

    /// The `request` of each review so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    decide: Arc<Decide>,
    asked: Arc<Mutex<Vec<Value>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    assert!(path.starts_with("/path?timeout="), "{path}");
    let known = [("AdmissionReview", "admission.k8s.io/v1"), ("ConversionReview", "apiextensions.k8s.io/v1")];
    assert!(known.iter().any(|(kind, version)| review["kind"] == *kind && review["apiVersion"] == *version));
    asked.lock().push(review["request"].clone());
    let body = match decide(&review["request"]) {
        Decision::Silence => return std::future::pending().await,
        Decision::Garbage => "no JSON".to_owned(),
        Decision::Answer(mut response) => {
            response["uid"] = review["request"]["uid"].clone();
            json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})
                .to_string()
        }
    };
    Ok(Response::new(Full::new(body.into())))
}
