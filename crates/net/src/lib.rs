//! Kernel networking: netlink, the nftables wire format, address management, the pod bridge.
//!
//! Knows addresses, interfaces and rule sets; knows nothing of Kubernetes kinds. Everything is synchronous:
//! the kernel answers in microseconds, and callers that must not block use `spawn_blocking`. No program is
//! ever run, and no table, chain or interface is touched that does not carry the name it was given.

pub mod addr;
pub mod bridge;
pub mod conntrack;
mod error;
pub mod fuzz;
pub mod hostport;
mod ipam;
mod link;
pub mod mesh;
pub mod monitor;
mod neighbour;
pub mod netlink;
mod netns;
pub mod nft;
mod qdisc;
mod reaper;
mod route;
mod rules;
pub mod segment;
mod source;
mod sysctl;
#[cfg(feature = "testing")]
pub mod testing;
mod vxlan;
pub mod work;

pub use error::Error;
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;
