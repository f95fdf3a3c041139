//! The control loops of a Kubernetes cluster.
//!
//! Each controller is a module of the same shape: `mod.rs` says which changes make which objects due (wiring)
//! and carries decisions out; the decisions themselves are pure functions in files named after what they decide,
//! tested with tables. What controllers share is in [`kit`]: views of the API that include this process's own
//! writes, work queues, events.
//!
//! The controllers talk to any Kubernetes API server; they know neither its storage nor how it is reached.

mod kit;

mod attach_detach;
mod autoscaling;
mod bootstrap_token;
mod certificates;
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
mod resource_claim;
mod resource_quota;
mod root_ca;
mod selection;
mod service_account;
mod service_account_token;
mod service_cidr;
mod statefulset;
mod taint_eviction;
mod ttl;
mod ttl_after_finished;
mod validatingadmissionpolicy_status;
mod volume_expand;
mod volume_protection;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use client::Informers;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use kit::Metrics;
pub use selection::{Selection, SelectionError};

/// What the controllers need to know about their cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which of the controllers run.
    pub controllers: Selection,
    /// Whether nodes are given parts of the network of pods.
    pub allocate_node_cidrs: bool,
    /// Of more finished pods than this the oldest are removed; of none without it.
    pub terminated_pod_gc_threshold: Option<usize>,
    /// The network of all pods, such as `10.244.0.0/16`, or two of different families with a comma between; each
    /// node gets a part of each.
    pub cluster_cidr: String,
    /// The prefix length of a node's part, by family.
    pub node_cidr_mask_size_ipv4: u8,
    pub node_cidr_mask_size_ipv6: u8,
    /// The certificates (PEM) by which pods trust the API server: `kube-root-ca.crt` in each namespace.
    pub root_ca_pem: String,
    /// The authority that signs certificate requests; without it, others have to.
    pub cluster_signing: Option<ClusterSigning>,
    /// A node that has not been heard of for this long is given up.
    pub node_monitor_grace_period: Duration,
    /// Told of the controllers' work queues.
    pub metrics: Metrics,
}

impl Config {
    pub const NODE_CIDR_MASK_SIZE_IPV4: u8 = 24;
    pub const NODE_CIDR_MASK_SIZE_IPV6: u8 = 64;
    pub const TERMINATED_POD_GC_THRESHOLD: usize = 12_500;
    pub const NODE_MONITOR_GRACE_PERIOD: Duration = node_lifecycle::health::GRACE;
}

/// A certificate authority: certificate and private key in PEM.
#[derive(Clone)]
pub struct ClusterSigning {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for ClusterSigning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSigning(..)")
    }
}

/// The controllers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cluster CIDR {cidr} cannot be split into /{mask_size} networks for nodes: {reason}")]
    ClusterCidr { cidr: String, mask_size: u8, reason: &'static str },
    #[error("the {what} of the cluster's signing authority cannot be used: {reason}")]
    Signing { what: &'static str, reason: String },
}

/// Runs all controllers until `shutdown`.
pub fn run(
    informers: Informers,
    config: Config,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(informers, config, shutdown))
}

async fn run_until(informers: Informers, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let world = Arc::new(kit::World::new(&informers));
    let started = CancellationToken::new();
    let metrics = config.metrics.clone();
    let selection = config.controllers.clone();
    let mut loops = Loops { running: JoinSet::new(), started, shutdown, metrics, selection };
    loops.start("persistentvolume-attach-detach-controller", |loops| attach_detach::start(&world, loops));
    bootstrap_token::start(&world, &mut loops);
    certificates::start(&world, &mut loops, &config)?;
    loops.start("clusterrole-aggregation-controller", |loops| clusterrole_aggregation::start(&world, loops));
    loops.start("cronjob-controller", |loops| cronjob::start(&world, loops));
    loops.start("daemonset-controller", |loops| daemonset::start(&world, loops));
    loops.start("deployment-controller", |loops| deployment::start(&world, loops));
    loops.start("endpoints-controller", |loops| endpoints::start(&world, loops));
    loops.start("endpointslice-controller", |loops| endpointslice::start(&world, loops));
    loops.start("endpointslice-mirroring-controller", |loops| endpointslice_mirroring::start(&world, loops));
    loops.start("ephemeral-volume-controller", |loops| ephemeral_volume::start(&world, loops));
    let resources = garbage_collector::start(&world, &mut loops);
    loops.start("disruption-controller", |loops| disruption::start(&world, loops, resources.clone()));
    loops.start("horizontal-pod-autoscaler-controller", |loops| {
        autoscaling::start(&world, loops, resources.clone())
    });
    loops.start("job-controller", |loops| job::start(&world, loops));
    loops.start("namespace-controller", |loops| namespace::start(&world, loops, &resources));
    if config.allocate_node_cidrs && loops.runs("node-ipam-controller") {
        node_ipam::start(&world, &mut loops, &config)?;
    }
    loops.start("node-lifecycle-controller", |loops| {
        node_lifecycle::start(&world, loops, config.node_monitor_grace_period)
    });
    loops.start("persistentvolume-binder-controller", |loops| persistent_volume::start(&world, loops));
    loops.start("pod-garbage-collector-controller", |loops| {
        pod_gc::start(&world, loops, config.terminated_pod_gc_threshold)
    });
    replicaset::start(&world, &mut loops);
    loops.start("resourceclaim-controller", |loops| resource_claim::start(&world, loops));
    loops.start("resourcequota-controller", |loops| resource_quota::start(&world, loops, resources));
    loops.start("root-ca-certificate-publisher-controller", |loops| root_ca::start(&world, loops, &config));
    loops.start("serviceaccount-controller", |loops| service_account::start(&world, loops));
    service_account_token::start(&world, &mut loops, &config);
    loops.start("service-cidr-controller", |loops| service_cidr::start(&world, loops));
    loops.start("statefulset-controller", |loops| statefulset::start(&world, loops));
    loops.start("taint-eviction-controller", |loops| taint_eviction::start(&world, loops));
    loops.start("ttl-controller", |loops| ttl::start(&world, loops));
    loops.start("ttl-after-finished-controller", |loops| ttl_after_finished::start(&world, loops));
    loops.start("validatingadmissionpolicy-status-controller", |loops| {
        validatingadmissionpolicy_status::start(&world, loops)
    });
    loops.start("persistentvolume-expander-controller", |loops| volume_expand::start(&world, loops));
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
    metrics: Metrics,
    selection: Selection,
}

impl Loops {
    /// Starts the controller of this name of upstream's, if it is to run.
    fn start(&mut self, name: &str, start: impl FnOnce(&mut Self)) {
        if self.runs(name) {
            start(self);
        }
    }

    /// Whether the controller of this name of upstream's is to run.
    fn runs(&self, name: &str) -> bool {
        self.selection.runs(name)
    }

    /// Runs something that is no queue.
    fn spawn<F>(&mut self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.spawn(task(self.shutdown.clone()).boxed());
    }

    fn add<C: kit::Controller>(&mut self, controller: C, queue: kit::Queue) {
        self.metrics.add(C::QUEUE, queue.clone());
        let (started, shutdown) = (self.started.clone(), self.shutdown.clone());
        let running = async move {
            tokio::select! {
                () = started.cancelled() => {}
                () = shutdown.cancelled() => return,
            }
            kit::run(Arc::new(controller), queue, shutdown).await;
        };
        self.running.spawn(running.boxed());
    }
}
