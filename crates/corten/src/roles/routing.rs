//! The service proxy alone, in the place of upstream's; and network policies alone, beside any pod network.

use std::path::Path;

use anyhow::{Context, Result};
use tracing::warn;

use super::{address, informers, pages, worker};
use crate::cli::{NetpolicyArgs, ProxyArgs};
use crate::parts::Parts;
use crate::{notify, signals};

pub async fn proxy(args: ProxyArgs) -> Result<()> {
    let mut parts = Parts::new(signals::shutdown()?);
    let configuration = args.configuration()?;
    if args.cleanup {
        return Ok(proxy::remove(&proxy::Config::default())?);
    }
    if let Some(path) = &args.write_config_to {
        return std::fs::write(path, configuration.text())
            .with_context(|| format!("cannot write {}", path.display()));
    }
    if args.init_only {
        limit_connections(&configuration)?;
        return Ok(());
    }
    let kubeconfig = &configuration.client_connection.kubeconfig;
    anyhow::ensure!(
        !kubeconfig.is_empty(),
        "no API server is named; say which with --kubeconfig, or clientConnection.kubeconfig in the file of --config"
    );
    let config = proxy::Config {
        node_name: node_name(&configuration.hostname_override)?,
        node_local_vips: args.cluster_dns.into_iter().collect(),
        flags: pages::flags(),
        ..proxy::Config::default()
    };
    let config = configuration.apply(config)?;
    limit_connections(&configuration)?;
    let informers =
        informers(Path::new(kubeconfig), "kube-proxy").await.context("cannot reach the API server")?;
    parts.start("service proxy", proxy::run(informers.clone(), config, parts.shutdown()));
    if let Some(dns) = args.cluster_dns {
        worker::start_dns(&mut parts, &informers, dns, &args.cluster_domain, &args.stub_domains)?;
    }
    notify::ready();
    parts.finish().await
}

fn limit_connections(configuration: &proxy::KubeProxyConfiguration) -> Result<()> {
    for error in configuration.conntrack()?.apply() {
        warn!(%error, "a limit of the connection tracker stays as it is");
    }
    Ok(())
}

pub async fn netpolicy(args: NetpolicyArgs) -> Result<()> {
    let mut parts = Parts::new(signals::shutdown()?);
    let node_name = node_name(args.hostname_override.as_deref().unwrap_or_default())?;
    let config = netpolicy::Config { node_name, ..netpolicy::Config::default() };
    // Nobody tells of new pods but the API server.
    let (_gate, requests) = netpolicy::Gate::new();
    let informers = informers(&args.kubeconfig, "corten").await?;
    parts.start("network policies", netpolicy::run(informers, config, requests, parts.shutdown()));
    notify::ready();
    parts.finish().await
}

fn node_name(given: &str) -> Result<String> {
    match given.trim() {
        "" => address::hostname(),
        name => Ok(name.to_lowercase()),
    }
}
