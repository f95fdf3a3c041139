//! A client, this server's relay and a kubelet's end, over real sockets and TLS.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::backend::Connector;
use super::relay::relay;
use super::target::{Purpose, Scheme, Target};
use crate::config::Config;
use crate::server::body::RequestBody;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test CA");
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// Certificate and key in PEM, for `name`.
fn leaf(issuer: &Issuer, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

fn write(directory: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn connector(directory: &Path, ca: &Issuer) -> Connector {
    connector_of(directory, ca, true)
}

/// Verifies all kubelets, or only those that are known to be signed.
fn connector_of(directory: &Path, ca: &Issuer, all: bool) -> Connector {
    let (certificate, key) = leaf(ca, "apiserver");
    let config = Config {
        kubelet_client_cert: write(directory, "client.crt", &certificate),
        kubelet_client_key: write(directory, "client.key", &key),
        kubelet_ca: all.then(|| write(directory, "ca.crt", &ca.pem())),
        kubelet_serving_ca: Some(write(directory, "ca.crt", &ca.pem())),
        ..Config::local(directory, 0)
    };
    Connector::new(&config).expect("a connector")
}

/// What the kubelet's end answers: an echo after an upgrade, errors in plain text, otherwise what it was sent.
async fn kubelet(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    match request.uri().path() {
        "/exec/ns/p/c" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.expect("upgraded"));
                let mut bytes = [0; 5];
                stream.read_exact(&mut bytes).await.expect("read");
                stream.write_all(&bytes).await.expect("written");
                stream.shutdown().await.expect("closed");
            });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        }
        "/containerLogs/ns/p/c" => {
            let told = request.uri().query().unwrap_or_default().to_owned();
            *response.body_mut() = Full::from(told);
        }
        _ => {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            *response.body_mut() =
                Full::from("container \"c\" in pod \"p\" is waiting to start: ContainerCreating\n");
        }
    }
    Ok(response)
}

/// Serves TLS with a certificate of `ca`, for clients of `clients`; returns the port.
async fn serve_kubelet(ca: &Issuer, clients: &Issuer) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.der().clone()).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .expect("a verifier");
    let (certificate, key) = leaf(ca, "127.0.0.1");
    let certificate = rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(kubelet))
                    .with_upgrades();
                // A client that goes away is part of some tests.
                let _ = connection.await;
            });
        }
    });
    port
}

/// A plain HTTP server that relays everything to the kubelet; returns a connection to it.
async fn through_relay(connector: Connector, port: u16) -> TcpStream {
    relayed(connector, Scheme::Kubelet, port).await
}

async fn relayed(connector: Connector, scheme: Scheme, port: u16) -> TcpStream {
    let connector = Arc::new(connector);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a client");
        let service = service_fn(move |request: Request<Incoming>| {
            let connector = connector.clone();
            async move {
                let path = request.uri().path_and_query().expect("a path").to_string();
                let target = Target { scheme, host: "127.0.0.1".into(), port, path, purpose: Purpose::Log };
                let request = request.map(|body| -> RequestBody { body.map_err(Into::into).boxed_unsync() });
                let answer = relay(&connector, target, request).await;
                Ok::<_, Infallible>(
                    answer.map(|answer| answer.map(|body| body.boxed_unsync())).unwrap_or_else(|status| {
                        let body = Full::from(status.message).map_err(|never| match never {}).boxed_unsync();
                        let mut response = Response::new(body);
                        *response.status_mut() = StatusCode::from_u16(status.code).expect("a code");
                        response
                    }),
                )
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(tcp), service)
            .with_upgrades();
        let _ = connection.await;
    });
    TcpStream::connect(address).await.expect("connected")
}

/// Sends a request and returns everything up to the end of the connection.
async fn ask(mut stream: TcpStream, head: &str, after: &[u8]) -> String {
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(after).await.expect("written");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("read");
    String::from_utf8(all).expect("text")
}

#[tokio::test]
async fn upgrades_answers_and_errors() {
    let directory = tempfile::tempdir().expect("a directory");
    let ca = authority();
    let port = serve_kubelet(&ca, &ca).await;
    let open = || through_relay(connector(directory.path(), &ca), port);

    let head =
        "POST /exec/ns/p/c?command=x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    let answer = ask(open().await, head, b"hello").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("upgrade: spdy/3.1"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");

    let head = "GET /containerLogs/ns/p/c?tailLines=5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = ask(open().await, head, b"").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("tailLines=5"), "{answer}");

    let head = "GET /containerLogs/ns/other/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = ask(open().await, head, b"").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("is waiting to start: ContainerCreating"), "{answer}");
}

#[tokio::test]
async fn kubelets_prove_who_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ca, other) = (authority(), authority());
    let port = serve_kubelet(&other, &ca).await;
    let head = "GET /containerLogs/ns/p/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = ask(through_relay(connector(directory.path(), &ca), port).await, head, b"").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("Get \"https://127.0.0.1:"), "{answer}");
}

/// Where not all kubelets are verified, those are that say that the cluster has signed their certificates.
#[tokio::test]
async fn a_kubelet_that_has_been_signed_is_not_replaced_by_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ca, other) = (authority(), authority());
    let (signed, impostor) = (serve_kubelet(&ca, &ca).await, serve_kubelet(&other, &ca).await);
    let head = "GET /containerLogs/ns/p/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for (scheme, port, code) in [
        (Scheme::KnownKubelet, signed, "200"),
        (Scheme::KnownKubelet, impostor, "500"),
        (Scheme::Kubelet, impostor, "200"),
    ] {
        let connector = connector_of(directory.path(), &ca, false);
        let answer = ask(relayed(connector, scheme, port).await, head, b"").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{scheme:?}: {answer}");
    }
}

#[tokio::test]
async fn unreachable_kubelets_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let ca = authority();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let head = "GET /containerLogs/ns/p/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = ask(through_relay(connector(directory.path(), &ca), port).await, head, b"").await;
    assert!(answer.ends_with(&format!("dial tcp 127.0.0.1:{port}: connect: connection refused")), "{answer}");
}
