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
mod endpoints;
mod engine;
mod health;
pub mod http;
mod kernel;
mod layout;
mod metrics;
mod model;
mod render;
mod run;
mod service;

pub use endpoints::{Endpoint, Slice, SlicePort};
pub use engine::{Engine, Update};
pub use metrics::Metrics;
pub use run::run;
pub use service::{Protocol, ServicePort, ServiceSpec};

use std::net::{IpAddr, SocketAddr};

use net::IpNet;

/// What the proxy of one node must know.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// The addresses on which node ports answer.
    pub node_ips: Vec<IpAddr>,
    /// The pod CIDRs of the cluster. What comes from elsewhere to a cluster IP is masqueraded, so that the
    /// answer comes back this way. When empty, nothing is, for that reason.
    pub cluster_cidr: Vec<IpNet>,
    /// Service addresses that this node answers itself (cluster DNS): left alone.
    pub node_local_vips: Vec<IpAddr>,
    /// The nftables table, in the families `ip` and `ip6`.
    pub table: String,
    /// Where `/healthz` is served (upstream: port 10256).
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` is served (upstream: port 10249 of the loopback).
    pub metrics: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            node_ips: Vec::new(),
            cluster_cidr: Vec::new(),
            node_local_vips: Vec::new(),
            table: "corten-proxy".to_owned(),
            healthz: None,
            metrics: None,
        }
    }
}

/// The proxy cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("service routing: {0}")]
    Kernel(#[from] net::Error),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot start the service routing thread: {0}")]
    Thread(std::io::Error),
}

/// Removes the tables of `config`: for a node that is to route no more.
pub fn remove(config: &Config) -> Result<(), Error> {
    Ok(kernel::Kernel::open(config)?.remove()?)
}
