//! Arguments of the service proxy: upstream's, where they have a meaning here.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use proxy::KubeProxyConfiguration;

use crate::hidden::ProxyFlags;

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
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub masquerade_all: Option<bool>,
    /// The bit of packet marks that means masquerading
    #[arg(long, value_name = "BIT")]
    pub iptables_masquerade_bit: Option<u32>,
    /// Node ports answer on 127.0.0.1, too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub iptables_localhost_nodeports: Option<bool>,
    /// End rather than go on when an address cannot be listened on, which is done anyway
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub bind_address_hard_fail: Option<bool>,
    /// Remove what the proxy has made on this machine, and end
    #[arg(long)]
    pub cleanup: bool,
    /// Set what only the machine's administrator may (limits of the connection tracker), and end
    #[arg(long)]
    pub init_only: bool,
    /// Write the configuration that the flags make, and end
    #[arg(long, value_name = "FILE")]
    pub write_config_to: Option<PathBuf>,
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
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub conntrack_tcp_be_liberal: Option<bool>,
    /// Answer the cluster's names on this node too, at this address
    #[arg(long, value_name = "IP")]
    pub cluster_dns: Option<IpAddr>,
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
    /// A domain that other resolvers know, such as corp.example=192.0.2.53; may be repeated
    #[arg(long = "stub-domain", value_name = "DOMAIN=IP", value_parser = super::parse_stub_domain)]
    pub stub_domains: Vec<super::StubDomain>,
    #[command(flatten)]
    pub further: ProxyFlags,
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
        for masquerading in [&mut configuration.iptables, &mut configuration.nftables] {
            masquerading.masquerade_all = self.masquerade_all.unwrap_or(masquerading.masquerade_all);
            masquerading.masquerade_bit = self.iptables_masquerade_bit.or(masquerading.masquerade_bit);
            masquerading.localhost_node_ports =
                self.iptables_localhost_nodeports.or(masquerading.localhost_node_ports);
        }
        if let Some(hard) = self.bind_address_hard_fail {
            configuration.bind_address_hard_fail = hard;
        }
        let conntrack = &mut configuration.conntrack;
        conntrack.max_per_core = self.conntrack_max_per_core.or(conntrack.max_per_core);
        conntrack.min = self.conntrack_min.or(conntrack.min);
        conntrack.tcp_be_liberal = self.conntrack_tcp_be_liberal.unwrap_or(conntrack.tcp_be_liberal);
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    /// What kubeadm and clouds start kube-proxy with.
    #[test]
    fn flags_of_others() {
        let check = |line: &str, expected: fn(&KubeProxyConfiguration) -> bool| {
            let words = ["corten", "proxy"].into_iter().chain(line.split_whitespace());
            let parsed = Cli::try_parse_from(words).map_err(|error| error.to_string());
            let Ok(Cli { command: Command::Proxy(args), .. }) = parsed else {
                panic!("{line}: {:?}", parsed.err());
            };
            let configuration = args.configuration().unwrap();
            assert!(expected(&configuration), "{line}: {}", configuration.text());
        };
        check("--hostname-override=n --v=2 --kubeconfig=/k", |c| c.hostname_override == "n");
        check(
            "--kubeconfig=/k --cluster-cidr=10.0.0.0/8 --oom-score-adj=-998 --v=2 --feature-gates=A=true \
             --iptables-sync-period=1m --iptables-min-sync-period=10s --ipvs-strict-arp --proxy-mode=iptables \
             --iptables-masquerade-bit=15 --iptables-localhost-nodeports=false --masquerade-all=true -v 2",
            |c| {
                c.iptables.masquerade_all
                    && c.iptables.masquerade_bit == Some(15)
                    && c.iptables.localhost_node_ports == Some(false)
            },
        );
        check(
            "--kubeconfig=/k --masquerade-all --conntrack-tcp-be-liberal --bind-address-hard-fail --profiling=false \
             --logging-format=json --log-flush-frequency=5s --kube-api-qps=10 --kube-api-burst=20",
            |c| c.nftables.masquerade_all && c.conntrack.tcp_be_liberal && c.bind_address_hard_fail,
        );
    }
}
