//! HTTP/1.1 over TLS with as little work as can be: the server is to be measured, not its client.
//!
//! One request at a time on one connection; answers are read, not understood.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where connections go, and as whom.
#[derive(Clone)]
pub struct Server {
    tls: TlsConnector,
    address: String,
    name: ServerName<'static>,
    /// `Host`, and `Authorization` where a token is used.
    headers: String,
}

impl Server {
    pub async fn from_kubeconfig(path: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(path)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let mut tls = config.rustls_client_config()?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let host = config.cluster_url.host().context("the server has no host")?.to_owned();
        let bare = host.trim_matches(['[', ']']).to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        let mut headers = format!("Host: {host}:{port}\r\nUser-Agent: bench\r\n");
        if let Some(token) = &config.auth_info.token {
            headers.push_str(&format!("Authorization: Bearer {}\r\n", token.expose_secret()));
        }
        let name = config.tls_server_name.clone().unwrap_or(bare);
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls)),
            address: format!("{host}:{port}"),
            name: ServerName::try_from(name)?,
            headers,
        })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let socket = TcpStream::connect(&self.address).await?;
        socket.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), socket).await?;
        Ok(Connection {
            stream,
            headers: self.headers.clone(),
            request: Vec::new(),
            buffer: vec![0; 256 << 10],
            begin: 0,
            end: 0,
        })
    }
}

pub struct Connection {
    stream: TlsStream<TcpStream>,
    headers: String,
    request: Vec<u8>,
    buffer: Vec<u8>,
    /// What has been read and not used is `buffer[begin..end]`.
    begin: usize,
    end: usize,
}

/// How long the body of an answer is.
enum Length {
    Known(u64),
    Chunked,
}

impl Connection {
    /// Sends a request and reads its answer to the end; gives its length.
    pub async fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Result<u64> {
        self.send(method, path, body).await?;
        match self.head().await? {
            Length::Known(length) => {
                let mut left = length;
                while left > 0 {
                    left -= self.some(left).await?;
                }
                Ok(length)
            }
            Length::Chunked => {
                let mut total = 0;
                loop {
                    let chunk = self.chunk().await?;
                    if chunk == 0 {
                        return Ok(total);
                    }
                    total += chunk;
                    let mut left = chunk + 2;
                    while left > 0 {
                        left -= self.some(left).await?;
                    }
                }
            }
        }
    }

    /// Sends a request whose answer goes on; [`Self::more`] reads it.
    pub async fn open(&mut self, path: &str) -> Result<()> {
        self.send("GET", path, b"").await?;
        self.head().await.map(drop)
    }

    /// Reads what has come of an answer that goes on, framing included.
    pub async fn more(&mut self) -> Result<&[u8]> {
        if self.begin == self.end {
            self.fill().await?;
        }
        let piece = &self.buffer[self.begin..self.end];
        (self.begin, self.end) = (0, 0);
        Ok(piece)
    }

    async fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<()> {
        self.request.clear();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            self.headers
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request).await?;
        self.stream.flush().await?;
        Ok(())
    }

    async fn fill(&mut self) -> Result<()> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        if self.end == self.buffer.len() {
            bail!("a header is too long");
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.end += read;
        Ok(())
    }

    /// Drops up to `left` bytes of a body.
    async fn some(&mut self, left: u64) -> Result<u64> {
        if self.begin == self.end {
            self.fill().await?;
        }
        let dropped = left.min((self.end - self.begin) as u64);
        self.begin += dropped as usize;
        Ok(dropped)
    }

    /// The text up to the next `end`, which is dropped.
    async fn until(&mut self, end: &[u8]) -> Result<String> {
        loop {
            let unused = &self.buffer[self.begin..self.end];
            if let Some(at) = unused.windows(end.len()).position(|window| window == end) {
                let text = String::from_utf8_lossy(&unused[..at]).into_owned();
                self.begin += at + end.len();
                return Ok(text);
            }
            self.fill().await?;
        }
    }

    async fn head(&mut self) -> Result<Length> {
        let head = self.until(b"\r\n\r\n").await?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        let mut length = Length::Known(0);
        for line in head.lines().skip(1) {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                length = Length::Known(value.trim().parse()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = Length::Chunked;
            }
        }
        if !status.starts_with('2') {
            if let Length::Known(length) = length {
                while (self.end - self.begin) < (length as usize).min(4096) {
                    self.fill().await?;
                }
            }
            bail!("{}: {}", status, String::from_utf8_lossy(&self.buffer[self.begin..self.end]));
        }
        Ok(length)
    }

    async fn chunk(&mut self) -> Result<u64> {
        let line = self.until(b"\r\n").await?;
        let length = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
        if length == 0 {
            self.until(b"\r\n").await?;
        }
        Ok(length)
    }
}
