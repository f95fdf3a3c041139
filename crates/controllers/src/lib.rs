//! The control loops of a Kubernetes cluster.
//!
//! Each controller is a module of the same shape: `mod.rs` says which changes make which objects due (wiring)
//! and carries decisions out; the decisions themselves are pure functions in files named after what they decide,
//! tested with tables. What controllers share is in [`kit`]: views of the API that include this process's own
//! writes, work queues, events.
//!
//! The controllers talk to any Kubernetes API server; they know neither its storage nor how it is reached.

mod kit;

mod clusterrole_aggregation;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod ephemeral_volume;
mod garbage_collector;
mod job;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod persistent_volume;
mod pod_gc;
mod replicaset;
mod resource_quota;
mod root_ca;
mod service_account;
mod statefulset;
mod taint_eviction;
mod ttl_after_finished;
mod validatingadmissionpolicy_status;
mod volume_protection;

use std::future::Future;
use std::sync::Arc;

use client::Informers;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the controllers need to know about their cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network of all pods, such as `10.244.0.0/16`; each node gets a part of it.
    pub cluster_cidr: String,
    /// The prefix length of a node's part.
    pub node_cidr_mask_size: u8,
    /// The certificates (PEM) by which pods trust the API server: `kube-root-ca.crt` in each namespace.
    pub root_ca_pem: String,
}

/// The controllers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cluster CIDR {cidr} cannot be split into /{mask_size} networks for nodes: {reason}")]
    ClusterCidr { cidr: String, mask_size: u8, reason: &'static str },
}

/// Runs all controllers until `shutdown`.
pub async fn run(informers: Informers, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let world = Arc::new(kit::World::new(&informers));
    let mut loops = Loops { running: JoinSet::new(), started: CancellationToken::new(), shutdown };
    clusterrole_aggregation::start(&world, &mut loops);
    cronjob::start(&world, &mut loops);
    daemonset::start(&world, &mut loops);
    deployment::start(&world, &mut loops);
    disruption::start(&world, &mut loops);
    endpoints::start(&world, &mut loops);
    endpointslice::start(&world, &mut loops);
    endpointslice_mirroring::start(&world, &mut loops);
    ephemeral_volume::start(&world, &mut loops);
    let resources = garbage_collector::start(&world, &mut loops);
    job::start(&world, &mut loops);
    namespace::start(&world, &mut loops);
    node_ipam::start(&world, &mut loops, &config)?;
    node_lifecycle::start(&world, &mut loops);
    persistent_volume::start(&world, &mut loops);
    pod_gc::start(&world, &mut loops);
    replicaset::start(&world, &mut loops);
    resource_quota::start(&world, &mut loops, resources);
    root_ca::start(&world, &mut loops, &config);
    service_account::start(&world, &mut loops);
    statefulset::start(&world, &mut loops);
    taint_eviction::start(&world, &mut loops);
    ttl_after_finished::start(&world, &mut loops);
    validatingadmissionpolicy_status::start(&world, &mut loops);
    volume_protection::start(&world, &mut loops);
    tokio::select! {
        () = world.start() => loops.started.cancel(),
        () = loops.shutdown.cancelled() => {}
    }
    while loops.running.join_next().await.is_some() {}
    Ok(())
}

/// The running controllers. They begin to work when all views are complete.
struct Loops {
    running: JoinSet<()>,
    started: CancellationToken,
    shutdown: CancellationToken,
}

impl Loops {
    /// Runs something that is no queue.
    fn spawn<F>(&mut self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.spawn(task(self.shutdown.clone()));
    }

    fn add<C: kit::Controller>(&mut self, controller: C, queue: kit::Queue) {
        let (started, shutdown) = (self.started.clone(), self.shutdown.clone());
        self.running.spawn(async move {
            tokio::select! {
                () = started.cancelled() => {}
                () = shutdown.cancelled() => return,
            }
            kit::run(Arc::new(controller), queue, shutdown).await;
        });
    }
}
