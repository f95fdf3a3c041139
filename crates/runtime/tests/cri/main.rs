//! The CRI socket, driven as a kubelet would, with real containers. Needs root; every test has its own mount and network
//! namespaces and directories.

mod bench;
mod builds;
mod cni;
mod containers;
mod contract;
mod faults;
mod handlers;
mod hangs;
mod host;
mod image;
mod node;
mod recovery;
mod security;
mod systemd;
mod unified;
mod userns;
mod volumes;
