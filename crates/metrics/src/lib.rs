//! `metrics.k8s.io`: what nodes and pods use at the moment, for `kubectl top` and for autoscaling.
//!
//! An extension server in the usual sense, aggregated by the API server; only that it lives in the same process and is
//! connected to without a socket. It keeps nothing and scrapes nothing: when somebody asks, the kubelets of the nodes in
//! question are asked for their `/stats/summary` through the API server, all at once ([`gather`]), and what they say is
//! kept for a few seconds. So it costs nothing while nobody asks, and works with upstream's kubelets as with ours.
//!
//! A metrics-server that is installed takes its place: its manifest names a Service in the same APIService.

mod answer;
mod discovery;
mod gather;
mod objects;
mod routes;
mod summary;
mod table;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use discovery::{GROUP, VERSION};
use gather::Gatherer;

/// Answers requests on these connections, which the API server makes, until `shutdown`. `client` is whom nodes, pods and
/// kubelets are asked as.
pub async fn serve(
    client: kube::Client,
    mut connections: mpsc::Receiver<DuplexStream>,
    shutdown: CancellationToken,
) {
    let gatherer = Arc::new(Gatherer::new(client));
    loop {
        let connection = tokio::select! {
            connection = connections.recv() => connection,
            () = shutdown.cancelled() => return,
        };
        let Some(connection) = connection else { return };
        let (gatherer, shutdown) = (gatherer.clone(), shutdown.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answered(gatherer.clone(), request));
            let mut builder = http1::Builder::new();
            let serving =
                builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(connection), service);
            tokio::select! {
                ended = serving => if let Err(error) = ended {
                    debug!(%error, "a connection of the API server ended");
                },
                () = shutdown.cancelled() => {}
            }
        });
    }
}

async fn answered(
    gatherer: Arc<Gatherer>,
    request: Request<Incoming>,
) -> Result<Response<answer::Body>, std::convert::Infallible> {
    Ok(answer::answer(&gatherer, &request.into_parts().0).await)
}
