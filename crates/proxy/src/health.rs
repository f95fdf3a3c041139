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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    /// What a load balancer is told; nothing when nobody listens.
    async fn ask(port: u16) -> Option<String> {
        let ask = move || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        };
        tokio::task::spawn_blocking(ask).await.expect("asking does not panic")
    }

    async fn eventually(port: u16, wanted: impl Fn(Option<&str>) -> bool) {
        let told = async {
            while !wanted(ask(port).await.as_deref()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), told).await.expect("it is told in time");
    }

    #[tokio::test]
    async fn load_balancers_are_told_of_endpoints_on_this_node() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let status = Arc::new(Status::default());
        status.synced(true);
        let local = |local_endpoints| {
            let health = LocalHealth { service: "shop/web".into(), port, local_endpoints };
            Health::from([(port, health)])
        };
        let (sender, receiver) = watch::channel(local(2));
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(receiver, vec![Ipv4Addr::LOCALHOST.into()], status, shutdown.clone()));
        eventually(port, |told| {
            told.is_some_and(|text| {
                let text = text.to_ascii_lowercase();
                text.starts_with("http/1.1 200")
                    && text.contains("x-load-balancing-endpoint-weight: 2")
                    && text.contains("\"service\":{\"name\":\"web\",\"namespace\":\"shop\"}")
            })
        })
        .await;
        sender.send_replace(local(0));
        eventually(port, |told| told.is_some_and(|text| text.starts_with("HTTP/1.1 503"))).await;
        sender.send_replace(Health::new());
        eventually(port, |told| told.is_none()).await;
        shutdown.cancel();
    }
}
