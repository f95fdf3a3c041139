//! `httpGet` probes and hooks. Certificates are not verified, as documented: a pod is asked by address.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::tcp::plain;

pub struct Get {
    pub host: String,
    pub port: u16,
    pub path: String,
    https: bool,
    headers: Vec<(String, String)>,
}

impl Get {
    pub fn new(action: &HTTPGetAction, pod_ip: &str, port: u16) -> Self {
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip);
        let path = action.path.as_deref().unwrap_or("/");
        Self {
            host: host.to_owned(),
            port,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            https: action.scheme.as_deref() == Some("HTTPS"),
            headers: action
                .http_headers
                .iter()
                .flatten()
                .map(|header| (header.name.clone(), header.value.clone()))
                .collect(),
        }
    }

    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }
}

pub fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// Redirects that are followed: upstream's bound is that of Go's client.
const MOST_REDIRECTS: usize = 10;

impl Get {
    /// Where a redirect on the same host leads. To another host nobody follows: the answer counts as a success.
    fn redirected(&self, location: &str) -> Option<Self> {
        let (https, rest) = match location.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return None,
            None => {
                let base = self.path.rsplit_once('/').map_or("", |(base, _)| base);
                let path = if location.starts_with('/') {
                    location.to_owned()
                } else {
                    format!("{base}/{location}")
                };
                return Some(Self { path, headers: self.headers.clone(), host: self.host.clone(), ..*self });
            }
        };
        let (place, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let authority: ::http::uri::Authority = place.parse().ok()?;
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        (host == self.host).then(|| Self {
            host: self.host.clone(),
            port,
            path: path.to_owned(),
            https,
            headers: self.headers.clone(),
        })
    }
}

/// What a server has said.
pub struct Answer {
    pub status: u16,
    /// Of redirects that were not followed: people may want to know. Of others, nothing.
    pub body: String,
}

/// No more of a body is read.
const BODY_MAX: usize = 10 << 10;

/// Asks, and answers with what was said. The error reads like Go's, which is what users know.
pub async fn get(get: &Get, timeout: Duration) -> Result<Answer, String> {
    match tokio::time::timeout(timeout, ask_on(get)).await {
        Ok(result) => result.map_err(|error| format!("Get {:?}: {error}", get.url())),
        Err(_) => Err(format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            get.url()
        )),
    }
}

async fn ask_on(get: &Get) -> Result<Answer, String> {
    let (mut answer, mut location) = ask(get).await?;
    let mut followed: Option<Get> = None;
    for _ in 0..MOST_REDIRECTS {
        let target = location.take().filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308));
        let Some(next) = target.and_then(|target| followed.as_ref().unwrap_or(get).redirected(&target))
        else {
            return Ok(answer);
        };
        (answer, location) = ask(&next).await?;
        followed = Some(next);
    }
    Err(format!("stopped after {MOST_REDIRECTS} redirects"))
}

/// What was said, and where a redirect leads.
async fn ask(get: &Get) -> Result<(Answer, Option<String>), String> {
    let address = authority(&get.host, get.port);
    let stream = TcpStream::connect((get.host.as_str(), get.port))
        .await
        .map_err(|error| format!("dial tcp {address}: connect: {}", plain(&error)))?;
    if !get.https {
        return exchange(get, stream).await;
    }
    let name = ServerName::try_from(get.host.clone()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(TRUSTING.clone());
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    exchange(get, stream).await
}

async fn exchange(
    get: &Get,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(Answer, Option<String>), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request =
        Request::get(&get.path).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    for (name, value) in [("user-agent", "kube-probe/1.36"), ("accept", "*/*"), ("connection", "close")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let host = authority(&get.host, get.port);
    headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(|error| error.to_string())?);
    for (name, value) in &get.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("invalid header name {name:?}"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("invalid value of header {name:?}"))?;
        // An empty one takes a default away.
        if value.is_empty() && matches!(name.as_str(), "user-agent" | "accept") {
            headers.remove(&name);
        } else if matches!(name.as_str(), "user-agent" | "accept" | "host") {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let body =
        if (300..400).contains(&status) { beginning(response.into_body()).await } else { String::new() };
    Ok((Answer { status, body }, location))
}

/// As much of a body as anybody wants to read.
async fn beginning(body: hyper::body::Incoming) -> String {
    let read = Limited::new(body, BODY_MAX).collect().await;
    read.map(|read| String::from_utf8_lossy(&read.to_bytes()).into_owned()).unwrap_or_default()
}

static TRUSTING: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map(|builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth()
        });
    // The provider supports the protocol versions that it was built with.
    Arc::new(config.unwrap_or_else(|error| unreachable!("rustls refuses its own defaults: {error}")))
});

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_on_the_same_host() {
        let get =
            Get { host: "10.1.2.3".into(), port: 80, path: "/a/b".into(), https: false, headers: Vec::new() };
        for (location, expected) in [
            ("/healthz", Some("http://10.1.2.3:80/healthz")),
            ("c?d=e", Some("http://10.1.2.3:80/a/c?d=e")),
            ("http://10.1.2.3:8080/x", Some("http://10.1.2.3:8080/x")),
            ("https://10.1.2.3", Some("https://10.1.2.3:443/")),
            ("http://0.0.0.0/", None),
            ("ftp://10.1.2.3/", None),
        ] {
            assert_eq!(get.redirected(location).map(|get| get.url()).as_deref(), expected, "{location}");
        }
    }
}
