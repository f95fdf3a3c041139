//! `/healthz` without TLS, for those on the machine who watch over the kubelet: port 10248 of the loopback address.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::context::Context;

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let known = matches!(request.uri().path(), "/healthz" | "/healthz/ping" | "/healthz/log");
    let text = if known { "ok" } else { "404 page not found\n" };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    if !known {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// Serves until `shutdown`. Where the port is taken, the kubelet goes on without.
pub async fn healthz(ctx: Arc<Context>, shutdown: CancellationToken) {
    let config = &ctx.options.config;
    if config.healthz_port == 0 {
        return;
    }
    let address = SocketAddr::new(config.healthz_bind_address, config.healthz_port);
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => return warn!(%address, %error, "the kubelet's health is not served"),
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                let shutdown = shutdown.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        // Whoever breaks off has what they wanted.
                        _ = connection => {}
                    }
                });
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}
