//! The API server with what it needs, and the parts that keep the cluster as it should be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver::{ApiServer, Extension, Inside, UserInfo};
use client::Informers;
use exposition::Meters;
use net::IpNet;
use pki::Cluster;
use serde_json::json;
use serving::Component;
use store::{Options, Store};
use tokio::net::TcpListener;

use super::leading::{LEADS, Leading};
use super::{addons, address, pages, ranges};
use crate::cli::{ClusterArgs, LifecycleArgs, NetworkArgs};
use crate::layout::Layout;
use crate::parts::Parts;
use crate::{join, notify};

/// What the controllers ask of the API server.
static REQUESTS: Meters = Meters::new(client::REQUESTS);

/// Upstream's port of the controllers.
pub const CONTROLLERS: u16 = 10257;

/// A running API server and the files of its cluster.
pub struct ControlPlane {
    api: ApiServer,
    pki: Cluster,
    /// How other machines reach the API server.
    server: String,
}

impl ControlPlane {
    /// Informers of this process, for the controllers and whoever shares their caches.
    pub fn informers(&self) -> Informers {
        Informers::new(self.client(
            "kube-controller-manager",
            "system:kube-controller-manager",
            &["system:masters"],
        ))
    }

    pub fn scheduler_client(&self) -> kube::Client {
        self.client("kube-scheduler", "system:kube-scheduler", &[])
    }

    pub fn node_client(&self, node: &str) -> kube::Client {
        self.client("kubelet", &format!("system:node:{node}"), &["system:nodes"])
    }

    fn client(&self, agent: &str, user: &str, groups: &[&str]) -> kube::Client {
        client::in_process(self.api.service(UserInfo::authenticated(user, groups)), agent)
    }

    /// What pods trust the API server by.
    pub fn authority(&self) -> &str {
        self.pki.authority()
    }

    pub fn signing(&self) -> Result<Option<controllers::ClusterSigning>> {
        let directory = self.pki.directory();
        signing(&directory.join("ca.crt"), &directory.join("ca.key"))
    }

    /// Makes what every cluster of ours has, and tells those who would join what they need to know.
    pub async fn publish(&self, client: &kube::Client, args: &ClusterArgs) -> Result<()> {
        addons::ensure(client, &args.network).await?;
        let services = &args.service_cluster_ip_range;
        join::publish(client, &self.server, self.authority(), services, &args.network).await
    }

    pub fn pki(&self) -> &Cluster {
        &self.pki
    }
}

/// Starts the API server; it answers when this returns.
pub async fn start(parts: &mut Parts, layout: &Layout, args: &ClusterArgs) -> Result<ControlPlane> {
    let advertise = match args.advertise_address {
        Some(address) => address,
        None => default_address(args)?,
    };
    let (pki_directory, names) = (layout.pki(), names(advertise, args)?);
    let server = names.server.clone();
    let pki = Cluster::ensure(&pki_directory, names)?;
    let store = open_store(parts, layout, args).await.context("cannot open the store")?;
    let (metrics, connections) = Extension::new(metrics::GROUP, metrics::VERSION);
    let config = apiserver::Config {
        inside: Inside::new(vec![metrics]),
        service_cidr: args.service_cluster_ip_range.clone(),
        issuer: format!("https://kubernetes.default.svc.{}", args.network.cluster_domain),
        flags: pages::flags(),
        ..apiserver::Config::from_pki(&pki_directory, advertise, args.secure_port)
    };
    let config = args.apiserver.apply(config)?;
    let listener = listen(args.bind_address, args.secure_port).await?;
    let api = ApiServer::start(config, store).await.context("cannot start the API server")?;
    let (serving, shutdown) = (api.clone(), parts.shutdown());
    parts.start("API server", async move {
        serving.serve(listener, shutdown).await;
        anyhow::Ok(())
    });
    notify::status("API server answers");
    let plane = ControlPlane { api, pki, server };
    // As the server itself: it has found out that who asks may know.
    let asking = plane.client("kube-apiserver", "system:apiserver", &["system:masters"]);
    let shutdown = parts.shutdown();
    parts.start("resource metrics", async move {
        metrics::serve(asking, connections, shutdown).await;
        anyhow::Ok(())
    });
    Ok(plane)
}

/// The etcd cluster that is named, or the embedded store with its socket.
async fn open_store(parts: &mut Parts, layout: &Layout, args: &ClusterArgs) -> Result<Store> {
    if let Some(etcd) = args.etcd.options() {
        return Ok(Store::connect(etcd, Options::default()).await?);
    }
    let path = layout.store();
    let store = tokio::task::spawn_blocking(move || Store::open(&path, Options::default())).await??;
    let (served, socket, shutdown) = (store.clone(), layout.store_socket(), parts.shutdown());
    parts.start("store's socket", async move {
        crate::store::admin::serve(served, &socket, shutdown.cancelled()).await
    });
    Ok(store)
}

fn names(advertise: IpAddr, args: &ClusterArgs) -> Result<pki::Names> {
    let host = match advertise {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let (mut addresses, mut hostnames) = (vec![advertise], vec![address::hostname()?]);
    for services in ranges::parse("service-cluster-ip-range", &args.service_cluster_ip_range)? {
        addresses.push(first_address(&services)?);
    }
    for name in &args.tls_san {
        match name.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => hostnames.push(name.clone()),
        }
    }
    Ok(pki::Names {
        cluster: "corten".to_owned(),
        server: format!("https://{host}:{}", args.secure_port),
        domain: args.network.cluster_domain.clone(),
        addresses,
        hostnames,
    })
}

/// The first usable address of a Service range: that of the `kubernetes` Service is of the first range.
fn first_address(range: &IpNet) -> Result<IpAddr> {
    ranges::addresses(range).next().with_context(|| format!("{range} has no addresses for Services"))
}

/// The endpoint of the `kubernetes` Service is of the Service's family.
fn default_address(args: &ClusterArgs) -> Result<IpAddr> {
    let services = ranges::parse("service-cluster-ip-range", &args.service_cluster_ip_range)?;
    let families: Vec<bool> = services.iter().take(1).map(ranges::is_ipv6).collect();
    let found = address::default_routes(&families)?;
    found.first().copied().context("this machine has no address; give one with --advertise-address")
}

async fn listen(address: Option<IpAddr>, port: u16) -> Result<TcpListener> {
    let bind = |ip: IpAddr| TcpListener::bind(SocketAddr::new(ip, port));
    let bound = match address {
        Some(ip) => bind(ip).await,
        // Both families where the kernel has both.
        None => match bind(Ipv6Addr::UNSPECIFIED.into()).await {
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                bind(Ipv4Addr::UNSPECIFIED.into()).await
            }
            other => other,
        },
    };
    bound.with_context(|| format!("cannot listen on port {port}; choose another with --secure-port"))
}

/// The authority that signs certificate requests, where its key is on this machine.
pub fn signing(certificate: &Path, key: &Path) -> Result<Option<controllers::ClusterSigning>> {
    if !key.exists() {
        return Ok(None);
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(Some(controllers::ClusterSigning { certificate_pem: read(certificate)?, key_pem: read(key)? }))
}

/// What the controllers are told of the cluster.
pub fn controllers_config(
    authority: &str,
    signing: Option<controllers::ClusterSigning>,
    network: &NetworkArgs,
    lifecycle: &LifecycleArgs,
) -> controllers::Config {
    controllers::Config {
        controllers: controllers::Selection::default(),
        allocate_node_cidrs: true,
        terminated_pod_gc_threshold: Some(controllers::Config::TERMINATED_POD_GC_THRESHOLD),
        cluster_cidr: network.cluster_cidr.clone(),
        node_cidr_mask_size_ipv4: controllers::Config::NODE_CIDR_MASK_SIZE_IPV4,
        node_cidr_mask_size_ipv6: controllers::Config::NODE_CIDR_MASK_SIZE_IPV6,
        root_ca_pem: authority.to_owned(),
        cluster_signing: signing,
        node_monitor_grace_period: lifecycle.node_monitor_grace_period,
        metrics: controllers::Metrics::default(),
    }
}

pub fn start_controllers(
    parts: &mut Parts,
    informers: &Informers,
    config: controllers::Config,
    leading: &Leading,
    pages: pages::Pages,
) -> Result<()> {
    pages.start(parts, component(&config));
    let informers = informers.acting_as(client::metered(informers.client(), &REQUESTS));
    leading.start(parts, "controllers", "kube-controller-manager", informers.client(), move |stop| {
        controllers::run(informers.clone(), config.clone(), stop)
    })
}

/// Whether the controllers live, and what their queues do.
fn component(config: &controllers::Config) -> Component {
    let metrics = config.metrics.clone();
    let configuration = json!({
        "KubeCloudShared": {"ClusterCIDR": config.cluster_cidr, "AllocateNodeCIDRs": config.allocate_node_cidrs},
        "NodeIPAMController": {
            "NodeCIDRMaskSizeIPv4": config.node_cidr_mask_size_ipv4,
            "NodeCIDRMaskSizeIPv6": config.node_cidr_mask_size_ipv6,
        },
        "NodeLifecycleController": {
            "NodeMonitorGracePeriod": format!("{}s", config.node_monitor_grace_period.as_secs()),
        },
    });
    Component {
        name: "kube-controller-manager",
        configuration: ("kubecontrollermanager.config.k8s.io", configuration),
        flags: pages::flags(),
        metrics: Arc::new(move || [metrics.encode(), REQUESTS.text(), LEADS.text()].concat()),
        more_metrics: Vec::new(),
        checks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_a_range() {
        let first = |range: &str| first_address(&range.parse().unwrap()).ok().map(|ip| ip.to_string());
        let check = |range: &str, address: &str| assert_eq!(first(range).as_deref(), Some(address));
        check("10.96.0.0/12", "10.96.0.1");
        check("10.97.3.4/12", "10.96.0.1");
        check("fd00:10:96::/112", "fd00:10:96::1");
        assert_eq!(first("255.255.255.255/32"), None);
    }
}
