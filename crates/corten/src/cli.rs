//! The command line.

mod cluster;
mod containers;
mod controllers;
mod join;
mod proxy;
mod secure;
mod store;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::apiserver_flags::ApiServerFlags;
use crate::hidden::{ControllersFlags, SchedulerFlags};
use crate::kubelet_flags::{FurtherFlags, KubeletFlags};
use crate::layout::{DEFAULT_ROOT, Layout};
pub use cluster::{
    ClusterCommand, CreateArgs, DEFAULT_NAME, DeleteArgs, ExportCommand, GetCommand, LoadCommand,
};
pub use containers::{BuildArgs, CtrArgs, CtrCommand, CtrNetwork, CtrRunArgs, ImageCommand, RegistryArgs};
pub use join::{
    DrainArgs, JoinArgs, NodeClientArgs, NodeCommand, SystemdCommand, TokenArgs, TokenCommand, UnitArgs,
};
pub use proxy::{NetpolicyArgs, ProxyArgs};
pub use secure::SecureArgs;
pub use store::{EtcdArgs, LeaderArgs, SnapshotCommand, StoreCommand};

/// Kubernetes in one binary: a cluster, a worker node, or any single part of one.
#[derive(Parser)]
#[command(name = "corten", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub directories: Directories,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Clone)]
pub struct Directories {
    /// What survives a reboot: the store, certificates, images, volumes
    #[arg(
        long,
        global = true,
        env = "CORTEN_ROOT_DIR",
        default_value = DEFAULT_ROOT,
        value_name = "DIR"
    )]
    pub root_dir: PathBuf,
    /// What does not: sockets, mounts, the state of running containers
    #[arg(long, global = true, env = "CORTEN_RUN_DIR", default_value = "/run/corten", value_name = "DIR")]
    pub run_dir: PathBuf,
}

impl Directories {
    pub fn layout(&self) -> Layout {
        Layout::new(&self.root_dir, &self.run_dir)
    }
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it is read once")]
pub enum Command {
    /// Start a one-node cluster: every part, in this process
    Up(UpArgs),
    /// Stop the cluster that `up --detach` started; its containers go on running
    Down,
    /// Stop Corten, kill its pods, and remove everything it made on this machine, data included
    Reset(ResetArgs),
    /// Start a control plane: API server, scheduler and controllers
    Server(ClusterArgs),
    /// Start a worker node: kubelet, proxy, DNS and container runtime; with --server, join a cluster first
    Node(NodeArgs),
    /// Start only the API server
    Apiserver(ClusterArgs),
    /// Start only the controllers
    Controllers(ControllersArgs),
    /// Start only the scheduler
    Scheduler(SchedulerArgs),
    /// Start only the kubelet, on any CRI socket
    Kubelet(KubeletArgs),
    /// Start only the service proxy, in the place of kube-proxy
    Proxy(ProxyArgs),
    /// Start only the enforcement of network policies, beside any pod network
    Netpolicy(NetpolicyArgs),
    /// Start only the container runtime
    Runtime(RuntimeRoleArgs),
    /// Make and delete clusters of several nodes on this machine
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Say who may join the cluster
    Token(TokenArgs),
    /// Have systemd run a role
    Systemd {
        #[command(subcommand)]
        command: SystemdCommand,
    },
    /// Look after the embedded store, also while the cluster runs (for etcd: etcdctl)
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Work with the images of this machine
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Build an image from a Dockerfile
    Build(BuildArgs),
    /// Work with the containers of this machine
    Ctr {
        #[command(flatten)]
        args: CtrArgs,
        #[command(subcommand)]
        command: CtrCommand,
    },
}

impl Command {
    /// Whether an API server is in this process, which is there to be fast; the rest is there to be small.
    pub fn serves_the_api(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Server(_) | Self::Apiserver(_))
    }
}

#[derive(Args, Clone)]
pub struct UpArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub node: NodeIdentity,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Return once the node is Ready, leaving the cluster running in the background
    #[arg(long)]
    pub detach: bool,
    // Last: the heading of its flags holds for all that follow.
    #[command(flatten)]
    pub kubelet: KubeletFlags,
}

#[derive(Args, Clone)]
pub struct ResetArgs {
    /// Do not ask
    #[arg(long, short)]
    pub force: bool,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
}

#[derive(Args, Clone)]
pub struct ClusterArgs {
    #[command(flatten)]
    pub lifecycle: LifecycleArgs,
    /// The address at which clients, nodes and pods reach the API server [default: that of the default route]
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// The address that the API server listens on [default: all]
    #[arg(long, value_name = "IP")]
    pub bind_address: Option<IpAddr>,
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    pub secure_port: u16,
    /// Further names and addresses for the API server's certificate: of a load balancer, mostly
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub tls_san: Vec<String>,
    /// Where the addresses of Services come from: a network, or one of each family with a comma between
    #[arg(long, default_value = "10.96.0.0/12", value_name = "CIDR")]
    pub service_cluster_ip_range: String,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    #[command(flatten)]
    pub leader: LeaderArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    // Last: the heading of its flags holds for all that follow.
    #[command(flatten)]
    pub apiserver: ApiServerFlags,
}

/// When controllers give up what is silent.
#[derive(Args, Clone)]
pub struct LifecycleArgs {
    /// A node that has not been heard of for this long is not ready, and its pods are to go
    #[arg(long, default_value = "50s", value_name = "DURATION", value_parser = store::duration)]
    pub node_monitor_grace_period: Duration,
}

/// In the usual network of Services.
pub const CLUSTER_DNS: &str = "10.96.0.10";

/// What every part has to agree on.
#[derive(Args, Clone)]
pub struct NetworkArgs {
    /// Where the addresses of pods come from: a network, or one of each family with a comma between
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pub cluster_cidr: String,
    /// The address of the cluster DNS, on every node; with another network of Services, its tenth
    #[arg(long, default_value = CLUSTER_DNS, value_name = "IP")]
    pub cluster_dns: IpAddr,
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
    /// A domain that other resolvers know, such as corp.example=192.0.2.53; may be repeated
    #[arg(long = "stub-domain", value_name = "DOMAIN=IP", value_parser = parse_stub_domain)]
    pub stub_domains: Vec<StubDomain>,
}

/// A domain and its resolvers.
pub type StubDomain = (String, Vec<std::net::SocketAddr>);

fn parse_stub_domain(text: &str) -> Result<StubDomain, String> {
    let bad = || "expected a domain, '=' and addresses separated by '+'".to_owned();
    let (domain, servers) = text.split_once('=').ok_or_else(bad)?;
    let server = |text: &str| {
        let alone = || Some(std::net::SocketAddr::new(text.parse().ok()?, 53));
        text.parse().ok().or_else(alone).ok_or_else(bad)
    };
    let servers: Vec<_> = servers.split('+').map(server).collect::<Result<_, _>>()?;
    if domain.trim_matches('.').is_empty() { Err(bad()) } else { Ok((domain.to_owned(), servers)) }
}

/// One address, or one of each family.
#[derive(Clone, Debug)]
pub struct NodeIps(pub Vec<IpAddr>);

fn parse_node_ips(text: &str) -> Result<NodeIps, String> {
    let bad = || "expected an IP address, or one of each family with a comma between".to_owned();
    let ips: Vec<IpAddr> =
        text.split(',').map(|ip| ip.trim().parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
    match ips.as_slice() {
        [_] => Ok(NodeIps(ips)),
        [first, second] if first.is_ipv4() != second.is_ipv4() => Ok(NodeIps(ips)),
        _ => Err(bad()),
    }
}

#[derive(Args, Clone)]
pub struct NodeIdentity {
    /// [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// [default: that of the default route]; one address, or one of each family with a comma between
    #[arg(long, value_name = "IP", value_parser = parse_node_ips)]
    pub node_ip: Option<NodeIps>,
    /// The port of the kubelet's API
    #[arg(long, default_value_t = 10250, value_name = "PORT")]
    pub kubelet_port: u16,
    /// A KubeletConfiguration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct KubeconfigArgs {
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: PathBuf,
}

#[derive(Args, Clone)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodeArgs {
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
    #[command(flatten)]
    pub join: JoinArgs,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub kubelet: KubeletArgs,
}

#[derive(Args, Clone)]
pub struct KubeletArgs {
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub node: NodeIdentity,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// The CRI socket [default: the built-in runtime's]; the last counts, for kubeadm's flags name one too
    #[arg(long, value_name = "PATH", overrides_with = "container_runtime_endpoint")]
    pub container_runtime_endpoint: Option<PathBuf>,
    /// A kubeconfig that may ask for the one that --kubeconfig names, where that is not there yet
    #[arg(long, value_name = "FILE")]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Where certificates are kept that the kubelet asks for [default: pki below its directory]
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// The certificate of the kubelet's API [default: asked for or made, in --cert-dir]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Clients with certificates of this authority are let in
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    // Last: the heading of its flags holds for all that follow.
    #[command(flatten)]
    pub flags: KubeletFlags,
    #[command(flatten)]
    pub further: FurtherFlags,
}

#[derive(Args, Clone)]
pub struct SchedulerArgs {
    /// A KubeSchedulerConfiguration: profiles, plugins, extenders
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub leader: LeaderArgs,
    // The heading of its flags holds for all that follow.
    #[command(flatten)]
    pub secure: SecureArgs,
    #[command(flatten)]
    pub further: SchedulerFlags,
}

#[derive(Args, Clone)]
pub struct ControllersArgs {
    #[command(flatten)]
    pub lifecycle: LifecycleArgs,
    #[command(flatten)]
    pub kubeconfig: KubeconfigArgs,
    #[command(flatten)]
    pub leader: LeaderArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// What pods trust the API server by [default: the one under the root directory]
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
    /// The certificate of the authority that signs certificate requests [default: the one under the root directory]
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// The key of the authority that signs certificate requests [default: the one under the root directory]
    #[arg(long, value_name = "FILE")]
    pub cluster_signing_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub running: controllers::RunningArgs,
    // The heading of its flags holds for all that follow.
    #[command(flatten)]
    pub secure: SecureArgs,
    #[command(flatten)]
    pub further: ControllersFlags,
}

#[derive(Args, Clone)]
pub struct RuntimeRoleArgs {
    /// Who makes the cgroups of containers: Corten itself, or systemd, as scopes in the slices of their pods. A kubelet
    /// follows
    #[arg(long, value_enum, default_value_t, value_name = "DRIVER")]
    pub cgroup_driver: CgroupDriver,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
}

#[derive(Args, Clone)]
pub struct RuntimeArgs {
    /// The bridge that pods are attached to
    #[arg(long, default_value = "corten0", value_name = "NAME")]
    pub bridge: String,
    /// The cgroup of containers whose pod names none
    #[arg(long, default_value = "/corten", value_name = "PATH")]
    pub cgroup_parent: String,
    /// Pods are connected by the CNI configuration in this directory instead of the built-in bridge
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are; may be repeated
    #[arg(long, value_name = "DIR", default_values = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"])]
    pub cni_bin_dir: Vec<PathBuf>,
    /// When packets to pods of other nodes go through VXLAN tunnels: to nodes on no shared link, or always (where the
    /// network between nodes drops addresses that it does not know)
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub tunnels: Tunnels,
    /// The pod network of this node, where no kubelet tells it
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// A RuntimeClass handler and its OCI runtime, such as runc=/usr/bin/runc; may be repeated
    #[arg(long = "handler", value_name = "NAME=PATH", value_parser = parse_handler)]
    pub handlers: Vec<(String, PathBuf)>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    #[default]
    Cgroupfs,
    Systemd,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default)]
pub enum Tunnels {
    #[default]
    Auto,
    Always,
}

fn parse_handler(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok((name.to_owned(), path.into())),
        _ => Err("expected a name, '=' and an absolute path".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn handlers_have_a_name_and_a_path() {
        assert_eq!(parse_handler("runc=/usr/bin/runc"), Ok(("runc".into(), "/usr/bin/runc".into())));
        for bad in ["runc", "=/usr/bin/runc", "runc=bin/runc", "runc="] {
            assert!(parse_handler(bad).is_err(), "{bad}");
        }
    }
}
