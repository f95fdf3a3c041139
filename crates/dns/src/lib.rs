//! Cluster DNS, answered on the node.
//!
//! Service names come from an index that Service and EndpointSlice events keep current ([`index`]); what they mean is
//! a pure function of it ([`answer`], after the Kubernetes DNS specification 1.1). Everything else is forwarded to the
//! resolvers of the node ([`forward`]), with a small cache.

mod answer;
mod cache;
mod forward;
pub mod fuzz;
mod index;
mod metrics;
mod resolv_conf;
mod server;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use client::{Delta, Informers, Subscription};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use forward::Forwarder;
use index::Index;
use server::Server;

/// What the resolver of one node must know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to answer, over UDP and TCP. The addresses must be the node's.
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// Names the resolvers for everything else; read again when it changes.
    pub resolv_conf: PathBuf,
    /// Domains that other resolvers know: a domain and those to ask about all names in it.
    pub stub_domains: Vec<(String, Vec<SocketAddr>)>,
    /// Where `/metrics` is served (CoreDNS: port 9153).
    pub metrics: Option<SocketAddr>,
}

/// The resolver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cluster DNS cannot listen on {address} ({protocol}): {source}")]
    Listen { address: SocketAddr, protocol: &'static str, source: std::io::Error },
}

/// Answers until `shutdown`. It listens before it returns to the caller's first await; names of the cluster are
/// answered with SERVFAIL, which clients try again, until the index is complete.
pub fn run(
    informers: Informers,
    config: Config,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(informers, config, shutdown))
}

async fn run_until(informers: Informers, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let index = Arc::new(RwLock::new(Index::new(&config.domain)));
    let forwarder = Forwarder::new(config.resolv_conf.clone(), &config.listen, &config.stub_domains);
    let server = Server::new(index.clone(), forwarder);
    for address in &config.listen {
        server.listen(*address, &shutdown).await?;
    }
    if let Some(address) = config.metrics {
        tokio::spawn(metrics::serve(address, server.metrics().clone(), shutdown.clone()));
    }

    let mut services = informers.all::<Service>().subscribe();
    let mut slices = informers.all::<EndpointSlice>().subscribe();
    tokio::select! {
        () = async {
            until_synced(&mut services, |delta| index.write().service(delta)).await;
            until_synced(&mut slices, |delta| index.write().slice(delta)).await;
        } => index.write().set_complete(),
        () = shutdown.cancelled() => return Ok(()),
    }
    loop {
        tokio::select! {
            Some(delta) = services.recv() => index.write().service(delta),
            Some(delta) = slices.recv() => index.write().slice(delta),
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

async fn until_synced<K>(deltas: &mut Subscription<K>, mut apply: impl FnMut(Delta<K>)) {
    while let Some(delta) = deltas.recv().await {
        if matches!(delta, Delta::Synced) {
            return;
        }
        apply(delta);
    }
}
