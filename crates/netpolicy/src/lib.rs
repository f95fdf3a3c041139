//! NetworkPolicies turned into nftables state.
//!
//! ```text
//! NetworkPolicy, Namespace, Pod ──► policy, pod (parsed)
//!                                      │ model: profiles, classes, and what of each may speak to which
//!                                      │ layout: elements and rules as bytes
//!                                      ▼
//!                                    kernel: one nftables transaction per address family
//! ```
//! All but the last is free of input and output. The number of rules is fixed. A pod of this node that a policy selects
//! has a *profile* per direction: what its policies come to. Every address that rules can mean has a *class*: which
//! selections of pods, or which blocks of addresses, it belongs to. Elements say which profile may speak to which class,
//! and to which ports; so one more pod is one element more, whatever it is selected by.
//!
//! Every packet is judged, in both directions, by who began the connection; so a change cuts connections that are no
//! longer allowed, and answers of those that are pass. What the policies are judged by are pods' addresses, behind
//! service routing. Processes of a pod's own node, probes among them, and the pod itself always reach it.
//!
//! A new pod is told of by the runtime as soon as it has its address, and waited for ([`Gate`]): its profile is in the
//! kernel before the first of its processes runs.

mod gate;
mod kernel;
mod layout;
mod model;
mod pod;
mod policy;
mod run;

pub use gate::{Gate, NotAdmitted, Requests};
pub use kernel::{Commit, Engine};
pub use model::Update;
pub use pod::{Pod, Sandbox};
pub use policy::Policy;
pub use run::run;

/// What one node must know.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// The nftables table, in the families `ip` and `ip6`.
    pub table: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { node_name: String::new(), table: "corten-netpolicy".to_owned() }
    }
}

/// Policies cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("network policies: {0}")]
    Kernel(#[from] net::Error),
    #[error("cannot start the thread of network policies: {0}")]
    Thread(std::io::Error),
}

/// Removes the tables of `config`: for a node that is to enforce nothing any more.
pub fn remove(config: &Config) -> Result<(), Error> {
    for family in [net::nft::Family::Ipv4, net::nft::Family::Ipv6] {
        net::nft::remove_table(family, &config.table)?;
    }
    Ok(())
}
