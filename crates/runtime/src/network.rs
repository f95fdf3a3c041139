//! The pod network: ready when the pod CIDR is known, which is kept for the next start.

use std::fs;
use std::path::PathBuf;

use tracing::warn;

use crate::state::Runtime;
use crate::{Error, Result, disk};

impl Runtime {
    /// From UpdateRuntimeConfig: one CIDR, or one per address family with a comma between.
    pub fn set_pod_cidr(&self, cidrs: &str) -> Result<()> {
        let parse = |text: &str| {
            text.trim()
                .parse()
                .map_err(|_| Error::InvalidArgument(format!("pod CIDR {text:?} is not a network")))
        };
        let networks: Vec<net::IpNet> = cidrs.split(',').map(parse).collect::<Result<_>>()?;
        let set = self.bridge.set_pod_cidr(&networks);
        *self.network_problem.lock() = set.as_ref().err().map(ToString::to_string);
        set?;
        disk::replace(&self.pod_cidr_file(), cidrs.as_bytes())
    }

    /// A kubelet tells the CIDR when it learns it, not when the runtime was started again.
    pub fn restore_pod_cidr(&self) {
        let Ok(cidrs) = fs::read_to_string(self.pod_cidr_file()) else { return };
        if let Err(error) = self.set_pod_cidr(&cidrs) {
            warn!(%error, "the pod network cannot be restored");
        }
    }

    fn pod_cidr_file(&self) -> PathBuf {
        self.config.root_dir.join("pod-cidr")
    }
}
