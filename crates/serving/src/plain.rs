//! A few fixed pages over plain HTTP, for load balancers' health checks and for metrics: `GET`, one answer, close.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The request line and headers of any health checker are far shorter.
const MAX_REQUEST: usize = 8 * 1024;
const MAX_CONNECTIONS: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(5);

pub struct Page {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    pub header: Option<(&'static str, String)>,
}

impl Page {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, content_type: "application/json", body: body.to_string(), header: None }
    }

    pub fn text(status: u16, body: String) -> Self {
        Self { status, content_type: exposition::CONTENT_TYPE, body, header: None }
    }

    pub fn not_found() -> Self {
        Self {
            status: 404,
            content_type: "text/plain; charset=utf-8",
            body: "404 page not found\n".to_owned(),
            header: None,
        }
    }

    fn encode(&self) -> String {
        let reason = match self.status {
            200 => "OK",
            404 => "Not Found",
            503 => "Service Unavailable",
            _ => "Error",
        };
        let header =
            self.header.as_ref().map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nX-Content-Type-Options: nosniff\r\n\
             {header}Connection: close\r\n\r\n{}",
            self.status,
            self.content_type,
            self.body.len(),
            self.body
        )
    }
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Without the query.
    pub path: &'a str,
    pub accept: Option<&'a str>,
}

/// Answers every request with the page that it asks for, until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    shutdown: CancellationToken,
    page: impl Fn(Asked<'_>) -> Page + Send + Sync + 'static,
) {
    let page = Arc::new(page);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned();
        let accepted = async { (slot.await, listener.accept().await) };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => return,
        };
        let (Ok(slot), Ok((stream, _))) = (slot, accepted) else {
            // Out of descriptors: the next connection ends, and with it the shortage.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let page = page.clone();
        tokio::spawn(async move {
            // A peer that goes away or sleeps has only itself to tell.
            let _ = tokio::time::timeout(TIMEOUT, answer(stream, &*page)).await;
            drop(slot);
        });
    }
}

async fn answer(mut stream: TcpStream, page: &(impl Fn(Asked<'_>) -> Page + Sync)) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let answer = asked(&request).map_or_else(Page::not_found, page);
    stream.write_all(answer.encode().as_bytes()).await?;
    stream.shutdown().await
}

/// What a `GET` request is about.
fn asked(request: &[u8]) -> Option<Asked<'_>> {
    let mut lines = std::str::from_utf8(request).ok()?.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let accept = lines.filter_map(|line| line.split_once(':'));
    let accept = accept.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("accept"));
    (method == "GET" || method == "HEAD").then(|| Asked {
        path: target.split('?').next().unwrap_or(target),
        accept: accept.map(|(_, value)| value.trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let check = |request: &str, expected: Option<(&str, Option<&str>)>| {
            let expected = expected.map(|(path, accept)| Asked { path, accept });
            assert_eq!(asked(request.as_bytes()), expected, "{request:?}");
        };
        check("GET /healthz HTTP/1.1\r\nHost: x\r\naccept: a/b\r\n\r\n", Some(("/healthz", Some("a/b"))));
        check("GET /metrics?x=y HTTP/1.1\r\n\r\n", Some(("/metrics", None)));
        check("POST /healthz HTTP/1.1\r\n\r\n", None);
        check("GET\r\n\r\n", None);
        check("\r\n\r\n", None);
    }
}
