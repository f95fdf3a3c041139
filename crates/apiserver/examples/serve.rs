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
    let config = Config::local(&pki, port);
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
