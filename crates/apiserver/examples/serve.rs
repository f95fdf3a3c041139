//! An API server alone, for trying clients: `serve <directory> [port]` keeps everything in the directory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use apiserver::{ApiServer, Config};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut args = std::env::args().skip(1);
    let directory =
        PathBuf::from(args.next().ok_or_else(|| anyhow::anyhow!("usage: serve <directory> [port]"))?);
    let port = args.next().map(|port| port.parse()).transpose()?.unwrap_or(16443);
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let pki = directory.join("pki");
    pki::Cluster::ensure(
        &pki,
        pki::Names {
            cluster: "example".to_owned(),
            server: format!("https://127.0.0.1:{port}"),
            domain: "cluster.local".to_owned(),
            addresses: vec![local],
            hostnames: vec!["localhost".to_owned()],
        },
    )?;
    let config = Config {
        advertise: local,
        port,
        service_cidr: "10.96.0.0/12".to_owned(),
        node_port_range: (30000, 32767),
        tls_cert: pki.join("apiserver.crt"),
        tls_key: pki.join("apiserver.key"),
        client_ca: Some(pki.join("ca.crt")),
        service_account_key: pki.join("sa.key"),
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
        kubelet_client_cert: pki.join("apiserver-kubelet-client.crt"),
        kubelet_client_key: pki.join("apiserver-kubelet-client.key"),
        kubelet_ca: Some(pki.join("ca.crt")),
        front_proxy_ca: None,
        anonymous_auth: true,
        max_requests_in_flight: Config::DEFAULT_MAX_IN_FLIGHT,
        max_mutating_requests_in_flight: Config::DEFAULT_MAX_MUTATING_IN_FLIGHT,
    };
    let store = store::Store::open(&directory.join("state.redb"), store::Options::default())?;
    let server = ApiServer::start(config, store).await?;
    let listener = tokio::net::TcpListener::bind(SocketAddr::new(local, port)).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    eprintln!("serving; KUBECONFIG={}", directory.join("pki/admin.conf").display());
    server.serve(listener, shutdown).await;
    Ok(())
}
