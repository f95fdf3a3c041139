//! `corten cluster`: clusters of several nodes on this machine, for trying and testing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// The cluster that is meant when none is named.
pub const DEFAULT_NAME: &str = "dev";

#[derive(Subcommand, Clone)]
pub enum ClusterCommand {
    /// Create a cluster; its nodes are namespaces of this machine
    Create(CreateArgs),
    /// List the clusters of this machine
    #[command(alias = "ls")]
    List,
    /// Delete clusters, with everything in them
    Delete(DeleteArgs),
    /// Give the nodes of a cluster something
    Load {
        #[command(subcommand)]
        what: LoadCommand,
    },
    /// Save what helps to find out what went wrong
    Export {
        #[command(subcommand)]
        what: ExportCommand,
    },
    /// Show what a cluster has
    Get {
        #[command(subcommand)]
        what: GetCommand,
    },
    /// Stop every process of a node, as if the machine hung
    Pause(NodeName),
    /// Let a paused node go on
    Resume(NodeName),
    /// Pull the network plug of a node
    Cut(NodeName),
    /// Put the network plug of a node back
    Join(NodeName),
    /// Run a command on a node
    Exec {
        node: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// The first process of a node
    #[command(hide = true)]
    Host,
    /// What leads from this machine's ports to nodes
    #[command(hide = true)]
    Relay,
}

#[derive(Args, Clone)]
pub struct CreateArgs {
    /// [default: dev]
    #[arg(value_name = "NAME", conflicts_with = "name")]
    pub cluster: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How many nodes, servers included
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub nodes: usize,
    /// How many of them are servers, with a control plane each; several need etcd (Debian's etcd-server)
    #[arg(long, default_value_t = 1, value_name = "M")]
    pub servers: usize,
    /// A configuration file of kind (kind.x-k8s.io/v1alpha4); - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "servers"])]
    pub config: Option<PathBuf>,
    /// How long to wait until every node is Ready; 0 for not at all
    #[arg(long, default_value = "120s", value_name = "DURATION", value_parser = super::store::duration)]
    pub wait: Duration,
    /// The network of the nodes [default: one that is free of 198.19.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub subnet: Option<String>,
    /// The port of this machine that leads to the API server [default: one that is free]
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
    /// The kubeconfig that is to know the cluster [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// An image archive that every node gets; may be repeated
    #[arg(long, value_name = "ARCHIVE")]
    pub image: Vec<PathBuf>,
    /// A flag for the servers, as of corten server; may be repeated
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub server_arg: Vec<String>,
    /// A flag for every kubelet, as of corten node; may be repeated
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub node_arg: Vec<String>,
    /// Lines of a KubeletConfiguration for every node
    #[arg(long, value_name = "FILE")]
    pub kubelet_config: Option<PathBuf>,
    /// Leave what there is when something goes wrong
    #[arg(long)]
    pub retain: bool,
}

#[derive(Args, Clone)]
pub struct DeleteArgs {
    /// [default: dev]
    #[arg(value_name = "NAME", conflicts_with_all = ["name", "all"])]
    pub cluster: Option<String>,
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub name: Option<String>,
    /// Every cluster of this machine
    #[arg(long, short)]
    pub all: bool,
}

#[derive(Subcommand, Clone)]
pub enum LoadCommand {
    /// Add the images of an archive, or an image that this machine's Corten or docker has, to every node
    Image {
        /// An OCI or docker archive, - for standard input, or the name of an image
        #[arg(required = true)]
        images: Vec<String>,
        #[command(flatten)]
        cluster: ClusterName,
        /// Only these nodes
        #[arg(long, value_delimiter = ',', value_name = "NODES")]
        nodes: Vec<String>,
    },
}

#[derive(Subcommand, Clone)]
pub enum ExportCommand {
    /// The logs of nodes and of their pods
    Logs {
        directory: PathBuf,
        #[command(flatten)]
        cluster: ClusterName,
    },
}

#[derive(Subcommand, Clone)]
pub enum GetCommand {
    /// The administrator's kubeconfig
    Kubeconfig(ClusterName),
    /// The nodes, with their addresses
    Nodes(ClusterName),
    /// The clusters' names
    Clusters,
}

#[derive(Args, Clone)]
pub struct ClusterName {
    #[arg(long, default_value = DEFAULT_NAME, value_name = "NAME")]
    pub name: String,
}

#[derive(Args, Clone)]
pub struct NodeName {
    /// As kubectl get nodes shows it
    pub node: String,
}
