//! Nodes joined: Node objects turned into ways to every other node's pods.
//!
//! The ways are `net::mesh`'s; here is when they change: with a Node's pod CIDRs and InternalIPs, and with the links and
//! addresses of this machine. Heartbeats of nodes change nothing and cost nothing.

mod node;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Delta, Informers};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use net::mesh::{self, Joined, Mesh, Problem};
use net::monitor::{Event, Monitor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// The kernel refuses for a reason that time may heal; the pause doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What one node must know.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub node_name: String,
    pub mesh: mesh::Config,
}

/// The node cannot be joined with the others.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("joining nodes: {0}")]
    Kernel(#[from] net::Error),
    #[error("joining nodes: cannot wait for changes of links and addresses: {0}")]
    Wait(#[from] std::io::Error),
}

/// Keeps this node joined with all others until `shutdown`. The ways then stay, so that traffic goes on.
pub fn run(
    informers: Informers,
    config: Config,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(informers, config, shutdown))
}

/// Takes back what [`run`] made.
pub fn remove(config: &Config) -> Result<(), Error> {
    Ok(Mesh::new(config.mesh.clone()).remove()?)
}

async fn run_until(informers: Informers, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let mut nodes = informers.all::<Node>().subscribe();
    // SAFETY: the monitor has one descriptor, which it opens and closes with itself.
    let mut machine = unsafe { AsyncFd::register_with_interest(Monitor::open()?, Interest::READABLE) }
        .map_err(std::io::Error::from)?;
    let mut joiner = Joiner::new(config);
    // Before all nodes are known, those that are not would lose their ways.
    let mut synced = false;
    let mut due = false;
    let mut pause = FIRST_PAUSE;
    loop {
        if synced && due {
            due = !joiner.join().await;
            pause = if due { (pause * 2).min(LAST_PAUSE) } else { FIRST_PAUSE };
        }
        tokio::select! {
            delta = nodes.recv() => {
                let mut next = delta;
                while let Some(delta) = next {
                    synced |= matches!(delta, Delta::Synced);
                    due |= matches!(delta, Delta::Synced) || joiner.nodes.update(&delta);
                    next = nodes.try_recv().ok();
                }
            }
            ready = machine.readable_mut() => {
                let mut ready = ready?;
                let mut changed = false;
                ready.get_inner_mut().read(|event| changed |= joiner.concerns(event))?;
                ready.clear_ready();
                due |= changed;
            }
            () = tokio::time::sleep(pause), if synced && due => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// The nodes by name.
#[derive(Default)]
struct Nodes(BTreeMap<String, mesh::Node>);

impl Nodes {
    /// Whether it makes a difference.
    fn update(&mut self, delta: &Delta<Node>) -> bool {
        let Some(object) = delta.object() else { return false };
        let node = node::parse(object);
        if matches!(delta, Delta::Deleted(_)) {
            return self.0.remove(&node.name).is_some();
        }
        if self.0.get(&node.name) == Some(&node) {
            return false;
        }
        self.0.insert(node.name.clone(), node);
        true
    }
}

struct Joiner {
    name: String,
    mesh: Arc<Mesh>,
    nodes: Nodes,
    interfaces: HashSet<u32>,
    told: Vec<Problem>,
}

impl Joiner {
    fn new(config: Config) -> Self {
        Self {
            name: config.node_name,
            mesh: Arc::new(Mesh::new(config.mesh)),
            nodes: Nodes::default(),
            interfaces: HashSet::new(),
            told: Vec::new(),
        }
    }

    fn concerns(&self, event: Event) -> bool {
        match event {
            Event::Addresses => true,
            Event::Link(index) => self.interfaces.contains(&index),
        }
    }

    /// False when it is to be tried again.
    async fn join(&mut self) -> bool {
        let own = self.nodes.0.get(&self.name).filter(|own| !own.pod_cidrs.is_empty());
        let Some(own) = own.cloned() else {
            debug!(node = self.name, "no pod CIDR of this node yet");
            return true;
        };
        let peers: Vec<mesh::Node> = self.nodes.0.values().filter(|node| **node != own).cloned().collect();
        let (mesh, count) = (self.mesh.clone(), peers.len());
        let joined = match tokio::task::spawn_blocking(move || mesh.join(&own, &peers)).await {
            Ok(Ok(joined)) => joined,
            Ok(Err(error)) => {
                Joined { problems: vec![Problem::Kernel(error.to_string())], ..Joined::default() }
            }
            // The process is ending.
            Err(_) => return true,
        };
        if joined.changes > 0 {
            info!(nodes = count, changes = joined.changes, "ways to other nodes' pods changed");
        }
        for problem in joined.problems.iter().filter(|problem| !self.told.contains(problem)) {
            warn!(%problem, "pods of another node cannot be reached");
        }
        let again = joined.problems.iter().any(|problem| matches!(problem, Problem::Kernel(_)));
        self.told = joined.problems;
        self.interfaces = joined.interfaces;
        !again
    }
}
