//! Arguments of the service proxy: upstream's, where they have a meaning here.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use proxy::KubeProxyConfiguration;

#[derive(Args, Clone)]
pub struct ProxyArgs {
    /// A KubeProxyConfiguration; flags are laid over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// [default: the one that the configuration names]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The pod networks of the cluster, one or one of each family
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Where node ports answer: networks, or `primary`
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// The node's address, where the Node has none
    #[arg(long, value_name = "IP")]
    pub bind_address: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    pub healthz_bind_address: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_bind_address: Option<String>,
    /// How pods' packets are told from others: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix
    #[arg(long, value_name = "MODE")]
    pub detect_local_mode: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,
    /// Masquerade whatever goes to a cluster IP
    #[arg(long)]
    pub masquerade_all: bool,
    /// Taken for compatibility: there is one mode
    #[arg(long, value_name = "MODE")]
    pub proxy_mode: Option<String>,
    #[arg(long, value_name = "N")]
    pub conntrack_max_per_core: Option<u32>,
    #[arg(long, value_name = "N")]
    pub conntrack_min: Option<u32>,
    #[arg(long, value_name = "DURATION")]
    pub conntrack_tcp_timeout_established: Option<String>,
    #[arg(long, value_name = "DURATION")]
    pub conntrack_tcp_timeout_close_wait: Option<String>,
    #[arg(long, value_name = "DURATION")]
    pub conntrack_udp_timeout: Option<String>,
    #[arg(long, value_name = "DURATION")]
    pub conntrack_udp_timeout_stream: Option<String>,
    #[arg(long)]
    pub conntrack_tcp_be_liberal: bool,
    /// Answer the cluster's names on this node too, at this address
    #[arg(long, value_name = "IP")]
    pub cluster_dns: Option<IpAddr>,
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
    /// A domain that other resolvers know, such as corp.example=192.0.2.53; may be repeated
    #[arg(long = "stub-domain", value_name = "DOMAIN=IP", value_parser = super::parse_stub_domain)]
    pub stub_domains: Vec<super::StubDomain>,
}

impl ProxyArgs {
    pub fn configuration(&self) -> Result<KubeProxyConfiguration> {
        let mut configuration = match &self.config {
            Some(path) => KubeProxyConfiguration::load(path)?,
            None => KubeProxyConfiguration::default(),
        };
        let set = |field: &mut String, flag: &Option<String>| {
            if let Some(flag) = flag {
                field.clone_from(flag);
            }
        };
        set(&mut configuration.hostname_override, &self.hostname_override);
        set(&mut configuration.cluster_cidr, &self.cluster_cidr);
        set(&mut configuration.bind_address, &self.bind_address);
        set(&mut configuration.healthz_bind_address, &self.healthz_bind_address);
        set(&mut configuration.metrics_bind_address, &self.metrics_bind_address);
        set(&mut configuration.detect_local_mode, &self.detect_local_mode);
        set(&mut configuration.detect_local.bridge_interface, &self.pod_bridge_interface);
        set(&mut configuration.detect_local.interface_name_prefix, &self.pod_interface_name_prefix);
        set(&mut configuration.mode, &self.proxy_mode);
        if let Some(path) = &self.kubeconfig {
            configuration.client_connection.kubeconfig = path.to_string_lossy().into_owned();
        }
        if !self.nodeport_addresses.is_empty() {
            configuration.node_port_addresses = Some(self.nodeport_addresses.clone());
        }
        configuration.iptables.masquerade_all |= self.masquerade_all;
        configuration.nftables.masquerade_all |= self.masquerade_all;
        let conntrack = &mut configuration.conntrack;
        conntrack.max_per_core = self.conntrack_max_per_core.or(conntrack.max_per_core);
        conntrack.min = self.conntrack_min.or(conntrack.min);
        conntrack.tcp_be_liberal |= self.conntrack_tcp_be_liberal;
        for (field, flag) in [
            (&mut conntrack.tcp_established_timeout, &self.conntrack_tcp_timeout_established),
            (&mut conntrack.tcp_close_wait_timeout, &self.conntrack_tcp_timeout_close_wait),
            (&mut conntrack.udp_timeout, &self.conntrack_udp_timeout),
            (&mut conntrack.udp_stream_timeout, &self.conntrack_udp_timeout_stream),
        ] {
            if flag.is_some() {
                field.clone_from(flag);
            }
        }
        Ok(configuration)
    }
}

#[derive(Args, Clone)]
pub struct NetpolicyArgs {
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
}
