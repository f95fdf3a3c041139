//! The parts of a worker node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use client::Informers;
use kubelet::KubeletConfiguration;

use super::{address, ranges};
use crate::cli::{NetworkArgs, NodeIdentity, RuntimeArgs, StubDomain, Tunnels};
use crate::kubelet_flags::{FurtherFlags, KubeletFlags};
use crate::layout::Layout;
use crate::parts::Parts;

/// Where the cluster DNS has its address: on every node, so that names are answered without leaving it.
const DNS_INTERFACE: &str = "lo";
/// CoreDNS' port.
const DNS_METRICS: u16 = 9153;
const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Both families, where the kernel has both.
const UNSPECIFIED_6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Who this node is and what it shares with its cluster.
pub struct Node {
    pub name: String,
    /// At most one of each family, first the one that it is known by.
    pub ips: Vec<IpAddr>,
    pub kubelet_port: u16,
    pub configuration: KubeletConfiguration,
    pub network: NetworkArgs,
}

/// The files that a kubelet works with.
pub struct KubeletFiles {
    pub cri_socket: PathBuf,
    /// Empty for a certificate in `cert_dir`.
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
    /// Empty for none.
    pub client_ca: PathBuf,
    pub cert_dir: PathBuf,
    /// The client's certificate is in `cert_dir`.
    pub bootstrapped: bool,
    /// By a token of the cluster.
    pub joined: bool,
    /// The cluster's authority has signed `tls_cert`.
    pub tls_signed: bool,
}

impl Node {
    pub fn from_args(
        identity: &NodeIdentity,
        network: &NetworkArgs,
        flags: &KubeletFlags,
        further: &FurtherFlags,
    ) -> Result<Self> {
        let configuration = flags.configuration(identity.config.as_ref(), further)?;
        Ok(Self {
            name: match &identity.hostname_override {
                Some(name) => name.clone(),
                None => address::hostname()?,
            },
            ips: match &identity.node_ip {
                Some(given) => given_ips(&given.0)?,
                None => address::default_routes(&families(network)?)?,
            },
            kubelet_port: identity.kubelet_port,
            configuration,
            network: network.clone(),
        })
    }

    /// The kubelet's configuration decides for its runtime, too, where it says that systemd makes the cgroups.
    fn system_bus(&self) -> Option<PathBuf> {
        if self.configuration.cgroup_driver != "systemd" {
            return None;
        }
        let bus = PathBuf::from(super::SYSTEM_BUS);
        if !bus.exists() {
            tracing::warn!(bus = %bus.display(), "cgroupDriver is systemd, which is not here: cgroups are made without it");
            return None;
        }
        Some(bus)
    }

    /// What stands for every address that the node may be asked at.
    fn unspecified(&self) -> IpAddr {
        if self.ips.iter().any(IpAddr::is_ipv6) { UNSPECIFIED_6 } else { UNSPECIFIED }
    }
}

/// Upstream's way to ask for an address of a family is that family's unspecified one: the machine's then.
fn given_ips(given: &[IpAddr]) -> Result<Vec<IpAddr>> {
    let real = |ip: &IpAddr| match ip.is_unspecified() {
        true => address::of_family(ip.is_ipv6())
            .with_context(|| format!("--node-ip {ip}: this machine has no default route of that family")),
        false => Ok(*ip),
    };
    given.iter().map(real).collect()
}

/// Those of the pods, as `is_ipv6` says them.
fn families(network: &NetworkArgs) -> Result<Vec<bool>> {
    Ok(cluster_cidrs(network)?.iter().map(ranges::is_ipv6).collect())
}

pub fn runtime_config(
    layout: &Layout,
    args: &RuntimeArgs,
    network: &NetworkArgs,
    shim: PathBuf,
) -> Result<runtime::Config> {
    Ok(runtime::Config {
        root_dir: layout.runtime_root(),
        run_dir: layout.runtime_run(),
        socket: layout.cri_socket(),
        cgroup_parent: args.cgroup_parent.clone(),
        shim,
        bridge: args.bridge.clone(),
        cluster_cidrs: cluster_cidrs(network)?,
        pod_cidr: args.pod_cidr.clone(),
        cni: args.cni_conf_dir.clone().map(|conf_dir| runtime::CniConfig {
            conf_dir,
            bin_dirs: args.cni_bin_dir.clone(),
            bridge_before: false,
        }),
        systemd_bus: None,
        handlers: args.handlers.clone(),
        admission: None,
    })
}

pub fn start_runtime(
    parts: &mut Parts,
    layout: &Layout,
    args: &RuntimeArgs,
    node: &Node,
    shim: PathBuf,
    gate: netpolicy::Gate,
) -> Result<()> {
    let mut config = runtime_config(layout, args, &node.network, shim)?;
    config.systemd_bus = node.system_bus();
    config.admission = args.cni_conf_dir.is_none().then(|| admission(gate));
    parts.start("container runtime", runtime::run(config, parts.shutdown()));
    Ok(())
}

pub fn start_kubelet(
    parts: &mut Parts,
    layout: &Layout,
    client: kube::Client,
    node: &Node,
    files: KubeletFiles,
) -> Result<()> {
    let options = kubelet::Options {
        node_name: node.name.clone(),
        node_ips: node.ips.clone(),
        client,
        cri_socket: files.cri_socket,
        root_dir: layout.kubelet(),
        cluster_dns: vec![node.network.cluster_dns],
        cluster_domain: node.network.cluster_domain.clone(),
        config: node.configuration.clone(),
        tls_cert: files.tls_cert,
        tls_key: files.tls_key,
        tls_signed: files.tls_signed,
        client_ca: files.client_ca,
        cert_dir: files.cert_dir,
        bootstrapped: files.bootstrapped,
        joined: files.joined,
        listen: SocketAddr::new(node.unspecified(), node.kubelet_port),
    };
    parts.start("kubelet", kubelet::run(options, parts.shutdown()));
    Ok(())
}

/// The service proxy, and the cluster DNS at its address.
pub fn start_network(parts: &mut Parts, informers: &Informers, node: &Node) -> Result<()> {
    let dns = node.network.cluster_dns;
    let config = proxy::Config {
        node_name: node.name.clone(),
        // Node ports answer on the loopback address too, as people on the machine expect.
        node_ips: node.ips.iter().copied().chain([LOOPBACK]).collect(),
        node_ports: proxy::NodePorts::Primary,
        localhost_node_ports: true,
        cluster_cidr: cluster_cidrs(&node.network)?,
        node_local_vips: vec![dns],
        healthz: Some(SocketAddr::new(node.unspecified(), 10256)),
        metrics: Some(SocketAddr::new(LOOPBACK, 10249)),
        ..proxy::Config::default()
    };
    parts.start("service proxy", proxy::run(informers.clone(), config, parts.shutdown()));
    start_dns(parts, informers, dns, &node.network.cluster_domain, &node.network.stub_domains)
}

/// Names of the cluster, answered on this node.
pub fn start_dns(
    parts: &mut Parts,
    informers: &Informers,
    dns: IpAddr,
    domain: &str,
    stub_domains: &[StubDomain],
) -> Result<()> {
    net::addr::ensure_local(dns, DNS_INTERFACE)
        .with_context(|| format!("cannot give this node the address of the cluster DNS, {dns}"))?;
    let config = dns::Config {
        listen: vec![SocketAddr::new(dns, 53)],
        domain: domain.to_owned(),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
        stub_domains: stub_domains.to_vec(),
        metrics: Some(SocketAddr::new(UNSPECIFIED, DNS_METRICS)),
    };
    parts.start("cluster DNS", dns::run(informers.clone(), config, parts.shutdown()));
    Ok(())
}

/// A pod's processes wait until its network policies are in force.
fn admission(gate: netpolicy::Gate) -> runtime::Admission {
    runtime::Admission::new(move |pod: runtime::PodNetwork| {
        let gate = gate.clone();
        Box::pin(async move {
            let runtime::PodNetwork { namespace, name, labels, ips } = pod;
            let sandbox = netpolicy::Sandbox { namespace, name, labels, ips };
            gate.admit(sandbox).await.map_err(|refused| refused.to_string())
        })
    })
}

/// Network policies, unless CNI plugins are to enforce them.
pub fn start_policies(
    parts: &mut Parts,
    informers: &Informers,
    node: &Node,
    args: &RuntimeArgs,
    requests: netpolicy::Requests,
) {
    if args.cni_conf_dir.is_none() {
        let config = netpolicy::Config { node_name: node.name.clone(), ..netpolicy::Config::default() };
        let run = netpolicy::run(informers.clone(), config, requests, parts.shutdown());
        parts.start("network policies", run);
    }
}

/// Ways to the pods of other nodes, unless CNI plugins are to make them.
pub fn start_overlay(parts: &mut Parts, informers: &Informers, node: &Node, args: &RuntimeArgs) {
    if args.cni_conf_dir.is_some() {
        return;
    }
    let mut config = overlay::Config { node_name: node.name.clone(), ..overlay::Config::default() };
    config.mesh.mode = match args.tunnels {
        Tunnels::Auto => net::mesh::Mode::Auto,
        Tunnels::Always => net::mesh::Mode::Tunnel,
    };
    parts.start("network between nodes", overlay::run(informers.clone(), config, parts.shutdown()));
}

/// Takes back what [`start_network`], [`start_policies`] and [`start_overlay`] did to this machine.
pub fn clear_network(network: &NetworkArgs) -> Result<()> {
    netpolicy::remove(&netpolicy::Config::default()).context("cannot remove the network policies")?;
    overlay::remove(&overlay::Config::default()).context("cannot remove the ways to other nodes")?;
    proxy::remove(&proxy::Config::default()).context("cannot remove the service routing")?;
    net::addr::remove_local(network.cluster_dns, DNS_INTERFACE)
        .with_context(|| format!("cannot remove the address of the cluster DNS, {}", network.cluster_dns))
}

/// The pod networks, one or one of each family, separated by commas.
fn cluster_cidrs(network: &NetworkArgs) -> Result<Vec<net::IpNet>> {
    ranges::parse("cluster-cidr", &network.cluster_cidr)
}
