//! Health-check node ports: a load balancer asks each node whether a Service has an endpoint there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use serving::plain::{self, Page};
use serving::tls::listen;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::LocalHealth;
use crate::status::Status;

/// What is told, by port.
pub(crate) type Health = HashMap<u16, LocalHealth>;

/// Keeps a server on every port of `health`, until `shutdown`.
pub(crate) async fn serve(
    mut health: watch::Receiver<Health>,
    addresses: Vec<IpAddr>,
    status: Arc<Status>,
    shutdown: CancellationToken,
) {
    let addresses = if addresses.is_empty() { vec![Ipv6Addr::UNSPECIFIED.into()] } else { addresses };
    let mut servers: HashMap<u16, Server> = HashMap::new();
    loop {
        let wanted = health.borrow_and_update().clone();
        servers.retain(|port, _| wanted.contains_key(port));
        for (port, local) in wanted {
            match servers.get(&port) {
                Some(server) => *server.shown.lock() = local,
                None => {
                    drop(servers.insert(port, Server::start(local, &addresses, &status, &shutdown).await))
                }
            }
        }
        let changed = tokio::select! {
            changed = health.changed() => changed.is_ok(),
            () = shutdown.cancelled() => false,
        };
        if !changed {
            return;
        }
    }
}

struct Server {
    shown: Arc<Mutex<LocalHealth>>,
    _running: DropGuard,
}

impl Server {
    async fn start(
        local: LocalHealth,
        addresses: &[IpAddr],
        status: &Arc<Status>,
        shutdown: &CancellationToken,
    ) -> Self {
        let stop = shutdown.child_token();
        let port = local.port;
        let shown = Arc::new(Mutex::new(local));
        for ip in addresses {
            match listen(SocketAddr::new(*ip, port)).await {
                Ok(listener) => {
                    let shown = shown.clone();
                    let status = status.clone();
                    let page = move |_: plain::Asked<'_>| page(&shown.lock(), status.healthy());
                    tokio::spawn(plain::serve(listener, stop.clone(), page));
                }
                Err(error) => {
                    let service = shown.lock().service.clone();
                    tracing::error!(%service, %error, "no health check for load balancers");
                }
            }
        }
        Self { shown, _running: stop.drop_guard() }
    }
}

fn page(health: &LocalHealth, healthy: bool) -> Page {
    let (namespace, name) = health.service.split_once('/').unwrap_or_default();
    let status = if health.local_endpoints > 0 && healthy { 200 } else { 503 };
    let page = Page::json(
        status,
        &json!({
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": health.local_endpoints,
            "serviceProxyHealthy": healthy,
        }),
    );
    // By which a load balancer may share out clients.
    Page { header: Some(("X-Load-Balancing-Endpoint-Weight", health.local_endpoints.to_string())), ..page }
}
