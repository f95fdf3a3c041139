//! Certificates, keys and kubeconfig files of a cluster.
//!
//! The files have the names and places that kubeadm made familiar (`ca.crt`, `apiserver.crt`, `sa.key`,
//! `front-proxy-ca.crt`, `admin.conf` and so on), so that people, scripts and backups know them. Whatever exists and
//! is still good is kept; whatever is missing, about to expire, or lacks a name it needs is issued anew.

mod authority;
mod cluster;
mod error;
mod files;
mod kubeconfig;
mod leaf;
mod pem;
mod request;

pub use authority::Authority;
pub use cluster::{Cluster, Names, NodeFiles};
pub use error::Error;
pub use files::{write_private, write_public};
pub use kubeconfig::Kubeconfig;
pub use leaf::{CertAndKey, Leaf};
pub use pem::{certificates, public_key_hash, split_pem};
pub use request::{Request, validity};
