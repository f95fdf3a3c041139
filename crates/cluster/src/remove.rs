//! Taking a cluster back: processes, links, rules, cgroups, files.

use std::io;

use net::segment;

use crate::record::{Record, RecordError, Records};
use crate::{cgroups, kubeconfig, node};

/// Something of a cluster is left.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error("cannot end the processes of {what}: {source}")]
    Process { what: String, source: io::Error },
    #[error(transparent)]
    Network(#[from] net::Error),
    #[error(transparent)]
    Kubeconfig(#[from] kubeconfig::KubeconfigError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Removes everything that the record tells of, whatever of it is there. The caller holds the lock.
pub fn remove(records: &Records, record: &Record) -> Result<(), RemoveError> {
    for node in &record.nodes {
        if let Some(host) = node.host {
            // The kernel ends with it all that runs in the host, and waits for that.
            host.kill()
                .map_err(|source| RemoveError::Process { what: format!("node {}", node.name), source })?;
        }
    }
    if let Some(relay) = record.relay {
        relay.kill().map_err(|source| RemoveError::Process { what: "the relay".to_owned(), source })?;
    }
    for node in &record.nodes {
        // It goes with its namespace, but when the kernel comes to it.
        segment::remove_port(&node.port)?;
    }
    node::segment(record).remove()?;
    cgroups::remove(&record.cgroup());
    if let Some(path) = &record.kubeconfig {
        kubeconfig::remove(path, &kubeconfig::context(&record.name))?;
    }
    let mut others = records.all()?;
    others.retain(|other| other.name != record.name);
    if record.began_forwarding {
        match others.first_mut() {
            None => segment::stop_forwarding()?,
            // Whoever is the last.
            Some(other) => {
                other.began_forwarding = true;
                records.put(other)?;
            }
        }
    }
    Ok(records.remove(&record.name)?)
}
