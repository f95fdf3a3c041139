//! Services and EndpointSlices turned into nftables state.
//!
//! ```text
//! Service, EndpointSlice ──► service, endpoints (parsed)
//!                                 │ render: what this node must do for one Service
//!                                 ▼
//!                               model: who holds which element; the difference to before
//!                                 │ layout: elements and chains as bytes
//!                                 ▼
//!                               kernel: one nftables transaction per address family
//! ```
//! All but the last is free of input and output. The number of rules does not grow with Services: one map leads
//! from a destination to a backend set and a class (how many endpoints, which options); there is one short
//! chain per class; everything else is elements of maps. So a change is a few elements, whatever the size.

mod class;
mod configuration;
mod endpoints;
mod engine;
mod health;
mod kernel;
mod layout;
mod metrics;
mod model;
mod node;
mod pages;
mod render;
mod run;
mod service;
mod status;

pub use configuration::{ConfigurationError, KubeProxyConfiguration};
pub use endpoints::{Endpoint, Hints, Slice, SlicePort};
pub use engine::{Engine, Update};
pub use metrics::Metrics;
pub use run::run;
pub use service::{Protocol, ServicePort, ServiceSpec};

use std::net::{IpAddr, SocketAddr};

use net::IpNet;

/// Which other software knows to leave alone.
const UPSTREAMS_MARK: u32 = 0x4000;

/// On which addresses node ports answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePorts {
    /// Those of [`Config::node_ips`].
    #[default]
    Fixed,
    /// The first InternalIP of each family that the Node has.
    Primary,
    /// The machine's addresses in these networks.
    Networks(Vec<IpNet>),
}

/// How packets of pods are told from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Local {
    /// By [`Config::cluster_cidr`].
    #[default]
    ClusterCidr,
    /// By the pod CIDRs of the Node.
    NodeCidr,
    /// They come by this interface.
    Interface(String),
    /// They come by an interface whose name begins so.
    InterfacePrefix(String),
}

/// What the proxy of one node must know.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// The addresses on which node ports answer, until the Node tells others.
    pub node_ips: Vec<IpAddr>,
    pub node_ports: NodePorts,
    /// Node ports answer on 127.0.0.1 too.
    pub localhost_node_ports: bool,
    /// How packets of pods are told from others.
    pub local: Local,
    /// The pod CIDRs of the cluster. What comes from elsewhere to a cluster IP is masqueraded, so that the
    /// answer comes back this way. When empty, nothing is, for that reason.
    pub cluster_cidr: Vec<IpNet>,
    /// Whatever goes to a cluster IP is masqueraded.
    pub masquerade_all: bool,
    /// The bit of packet marks that means so.
    pub mark: u32,
    /// Service addresses that this node answers itself (cluster DNS): left alone.
    pub node_local_vips: Vec<IpAddr>,
    /// The nftables table, in the families `ip` and `ip6`.
    pub table: String,
    /// Where `/healthz` is served (upstream: port 10256).
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` is served (upstream: port 10249 of the loopback).
    pub metrics: Option<SocketAddr>,
    /// What `/configz` and `/flagz` tell.
    pub shown: serde_json::Value,
    pub flags: std::collections::BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            node_ips: Vec::new(),
            node_ports: NodePorts::default(),
            localhost_node_ports: false,
            local: Local::default(),
            cluster_cidr: Vec::new(),
            masquerade_all: false,
            mark: UPSTREAMS_MARK,
            node_local_vips: Vec::new(),
            table: "corten-proxy".to_owned(),
            healthz: None,
            metrics: None,
            shown: serde_json::Value::Null,
            flags: std::collections::BTreeMap::new(),
        }
    }
}

/// The proxy cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("service routing: {0}")]
    Kernel(#[from] net::Error),
    #[error(transparent)]
    Serve(#[from] serving::ServeError),
    #[error("cannot start the service routing thread: {0}")]
    Thread(std::io::Error),
}

/// Removes the tables of `config`: for a node that is to route no more.
pub fn remove(config: &Config) -> Result<(), Error> {
    Ok(kernel::Kernel::open(config)?.remove()?)
}
