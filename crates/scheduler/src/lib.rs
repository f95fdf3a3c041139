//! Assigns pods to nodes.
//!
//! [`scheduler::Scheduler`] is the loop. It keeps a picture of the cluster ([`cluster`]) that each event changes a
//! little, and a queue of pods that wait ([`queue`]); [`schedule`] chooses a node by asking the [`plugins`];
//! [`outcome`] tells the API server. Decisions are free of IO and are made one after the other; bindings run beside
//! them, counted in advance.

mod cluster;
pub mod fit;
mod labels;
mod outcome;
mod plugins;
mod pod;
mod preemption;
mod queue;
mod resources;
mod schedule;
mod scheduler;
#[cfg(test)]
mod tests;

use client::Informers;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use scheduler::Scheduler;

/// How the scheduler presents itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `spec.schedulerName` is this are ours.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
        }
    }
}

/// The scheduler could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the scheduler's watch of {0} has ended: the informers' runtime was shut down under it")]
    WatchEnded(&'static str),
}

/// Pods decided over before looking at what has changed meanwhile.
const BATCH: usize = 64;

/// Runs until `shutdown`.
pub async fn run(informers: Informers, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let (nodes, pods, namespaces) = (informers.all::<Node>(), informers.all::<Pod>(), informers.all::<Namespace>());
    let (mut node_deltas, mut pod_deltas) = (nodes.subscribe(), pods.subscribe());
    let mut namespace_deltas = namespaces.subscribe();
    let (bound_sender, mut bound) = mpsc::unbounded_channel();
    let mut scheduler = Scheduler::new(config.scheduler_name, informers.client(), bound_sender);

    // Nothing is decided on half a picture.
    tokio::select! {
        () = async { nodes.synced().await; pods.synced().await; namespaces.synced().await } => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    while let Ok(delta) = namespace_deltas.try_recv() {
        scheduler.namespace_changed(&delta);
    }
    while let Ok(delta) = node_deltas.try_recv() {
        scheduler.node_changed(&delta);
    }
    while let Ok(delta) = pod_deltas.try_recv() {
        scheduler.pod_changed(&delta);
    }

    loop {
        let more = (0..BATCH).all(|_| scheduler.schedule_next());
        let due = scheduler.next_due();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            Some(bound) = bound.recv() => scheduler.bound(bound),
            delta = namespace_deltas.recv() => {
                scheduler.namespace_changed(&delta.ok_or(Error::WatchEnded("namespaces"))?);
            }
            delta = node_deltas.recv() => {
                scheduler.node_changed(&delta.ok_or(Error::WatchEnded("nodes"))?);
            }
            delta = pod_deltas.recv() => {
                scheduler.pod_changed(&delta.ok_or(Error::WatchEnded("pods"))?);
            }
            () = tokio::task::yield_now(), if more => {}
            () = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            }, if !more => {}
        }
    }
}
