//! Clusters of several nodes on one machine, with nothing but the kernel: no container engine, no image of a machine.
//!
//! A node is a [`host`]: namespaces of its own, a root of its own over the machine's files, an address on the cluster's
//! [`net::segment`]. What a cluster consists of is in its [`record`], from which [`remove`] takes everything back.
//! [`relay`] leads from the machine's ports to nodes, [`kind`] reads kind's configuration, [`kubeconfig`] puts the
//! cluster among those that the user's kubectl knows. Which programs a node runs, and what they tell each other, is the
//! caller's business: nothing here knows the Kubernetes API.

pub mod cgroups;
pub mod host;
pub mod kind;
pub mod kubeconfig;
pub mod node;
pub mod plan;
pub mod record;
pub mod relay;
pub mod remove;
pub mod subnets;
