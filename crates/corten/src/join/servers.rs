//! Which API servers there are: those that were named when the machine joined, and from then on those that the Service
//! `kubernetes` leads to. A relay on this machine's loopback leads to one that lives.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use client::{Delta, Informers};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Files, Membership};
use crate::parts::Parts;

const PORT: u16 = 6444;
/// Where the relay listens.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
const SERVICE: &str = "kubernetes.io/service-name";

/// Starts the relay. Where it leads is changed by what is returned.
pub async fn relay(parts: &mut Parts, servers: Vec<SocketAddr>) -> Result<watch::Sender<Vec<SocketAddr>>> {
    let listener = TcpListener::bind(LISTEN)
        .await
        .with_context(|| format!("cannot listen on {LISTEN}, by which this node reaches the API servers"))?;
    let (sender, receiver) = watch::channel(servers);
    let shutdown = parts.shutdown();
    parts.start("way to the API servers", async move {
        cluster::relay::tcp(listener, receiver, shutdown).await;
        anyhow::Ok(())
    });
    Ok(sender)
}

/// Follows which servers there are, and remembers them for the next start.
pub async fn follow(
    informers: Informers,
    files: Files,
    mut membership: Membership,
    servers: watch::Sender<Vec<SocketAddr>>,
    shutdown: CancellationToken,
) -> Result<()> {
    let mut changes = informers.all::<EndpointSlice>().subscribe();
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            change = changes.recv() => change,
        };
        let slice = match change {
            Some(Delta::Added(slice) | Delta::Updated { new: slice, .. }) => slice,
            Some(_) => continue,
            None => return Ok(()),
        };
        // Without any, those of before are the best there is.
        let found = addresses(&slice);
        if found.is_empty() || found == membership.servers {
            continue;
        }
        info!(servers = ?found, "the API servers are others now");
        membership.servers.clone_from(&found);
        servers.send_replace(found);
        if let Err(error) = files.write(&membership) {
            warn!(error = format!("{error:#}"), "the API servers are not remembered");
        }
    }
}

/// Where the Service `kubernetes` leads, in a fixed order; nothing of another Service.
fn addresses(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let labels = slice.metadata.labels.as_ref();
    let of_api = slice.metadata.namespace.as_deref() == Some("default")
        && labels.and_then(|labels| labels.get(SERVICE)).is_some_and(|service| service == "kubernetes");
    let ports = slice.ports.as_deref().unwrap_or_default();
    let port = ports.iter().find_map(|port| u16::try_from(port.port?).ok());
    let (true, Some(port)) = (of_api, port) else { return Vec::new() };
    let endpoints = slice.endpoints.iter().flatten();
    let ready =
        endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    let mut found: Vec<SocketAddr> = ready
        .flat_map(|endpoint| &endpoint.addresses)
        .filter_map(|address| Some(SocketAddr::new(address.parse().ok()?, port)))
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn servers_are_those_of_the_service() {
        let slice = |namespace: &str, service: &str| -> EndpointSlice {
            serde_json::from_value(json!({
                "metadata": {"name": "s", "namespace": namespace, "labels": {SERVICE: service}},
                "addressType": "IPv4",
                "ports": [{"name": "https", "port": 6443}],
                "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1"]},
                              {"addresses": ["10.0.0.3"], "conditions": {"ready": false}}],
            }))
            .unwrap()
        };
        let expected: Vec<SocketAddr> =
            vec!["10.0.0.1:6443".parse().unwrap(), "10.0.0.2:6443".parse().unwrap()];
        assert_eq!(addresses(&slice("default", "kubernetes")), expected);
        assert!(addresses(&slice("other", "kubernetes")).is_empty());
        assert!(addresses(&slice("default", "web")).is_empty());
    }
}
