//! From updates to kernel state, without an API server: what [`crate::run`] drives, and what benchmarks drive.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use net::conntrack::{Conntrack, Flows};

use crate::Config;
use crate::class::{Balance, Class, View};
use crate::endpoints::Slice;
use crate::kernel::Kernel;
use crate::model::{Change, Key, Model, Stale};
use crate::render::{Desired, Node, render, to_cluster_ips};
use crate::service::ServiceSpec;

pub use crate::kernel::Commit;

/// Chains for cluster IPs with up to so many endpoints are made at the start, when they cost nothing.
const PREPARED: u32 = 16;

/// Something has changed. Services are named `namespace/name`.
#[derive(Clone, Debug)]
pub enum Update {
    /// A Service is now this; nothing when it is gone or needs no routing.
    Service { name: String, spec: Option<ServiceSpec> },
    /// A slice of a Service's endpoints is now this.
    Slice { service: String, name: String, slice: Option<Slice> },
    /// The zone of this node.
    Zone(Option<String>),
    /// The addresses on which node ports answer.
    NodeIps(Vec<IpAddr>),
}

#[derive(Default)]
struct Entry {
    spec: Option<ServiceSpec>,
    /// By name. Most Services have one, which a tree would keep in room for eleven.
    slices: Vec<(Box<str>, Slice)>,
}

impl Entry {
    fn slice(&self, name: &str) -> Option<usize> {
        self.slices.iter().position(|(known, _)| **known == *name)
    }

    /// Whether that changes anything.
    fn set_slice(&mut self, name: &str, slice: Option<Slice>) -> bool {
        match (self.slice(name), slice) {
            (Some(at), Some(slice)) => {
                let known = &mut self.slices[at].1;
                let changed = *known != slice;
                *known = slice;
                changed
            }
            (Some(at), None) => {
                self.slices.swap_remove(at);
                true
            }
            (None, Some(slice)) => {
                self.slices.reserve_exact(1);
                self.slices.push((Box::from(name), slice));
                true
            }
            (None, None) => false,
        }
    }
}

/// The names of nodes, which thousands of endpoints share.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    /// More than a cluster has nodes: then they are of nodes that are gone.
    const MOST: usize = 20_000;

    fn intern(&mut self, mut slice: Slice) -> Slice {
        if self.0.len() > Self::MOST {
            self.0.clear();
        }
        for node in slice.endpoints.iter_mut().filter_map(|endpoint| endpoint.node.as_mut()) {
            match self.0.get(node) {
                Some(known) => *node = known.clone(),
                None => drop(self.0.insert(node.clone())),
            }
        }
        slice
    }
}

/// What a Service's health check tells load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalHealth {
    pub port: u16,
    pub service: Key,
    pub local_endpoints: usize,
}

/// The routing of one node: feed it updates, then [`Engine::sync`].
pub struct Engine {
    node: Node,
    kernel: Kernel,
    entries: HashMap<Key, Entry>,
    nodes: Names,
    due: HashSet<Key>,
    model: Model,
    /// False until the kernel is known to hold what the model says.
    reconciled: bool,
    stale: Vec<Stale>,
    pub(crate) health: HashMap<Key, LocalHealth>,
    pub(crate) no_local: [HashSet<Key>; 2],
}

impl Engine {
    /// For the network namespace of the calling thread.
    pub fn new(config: Config) -> Result<Self, net::Error> {
        let mut kernel = Kernel::open(&config)?;
        let mut model = Model::default();
        model.set_hints(kernel.hints()?);
        for count in 1..=PREPARED {
            let masquerade = to_cluster_ips(&config);
            model.prepare(Class::Balance(Balance {
                view: View::Services,
                count,
                masquerade,
                ranges: false,
                affinity: 0,
            }));
        }
        Ok(Self {
            node: Node { config, zone: None },
            kernel,
            entries: HashMap::new(),
            nodes: Names::default(),
            due: HashSet::new(),
            model,
            reconciled: false,
            stale: Vec::new(),
            health: HashMap::new(),
            no_local: [HashSet::new(), HashSet::new()],
        })
    }

    /// Takes note of a change; nothing happens before [`Engine::sync`].
    pub fn update(&mut self, update: Update) {
        match update {
            Update::Service { name, spec } => {
                if spec.is_none() && !self.entries.contains_key(name.as_str()) {
                    return;
                }
                let (key, entry) = self.entry(name);
                if entry.spec != spec {
                    entry.spec = spec;
                    self.mark(key);
                }
            }
            Update::Slice { service, name, slice } => {
                if slice.is_none() && !self.entries.contains_key(service.as_str()) {
                    return;
                }
                let slice = slice.map(|slice| self.nodes.intern(slice));
                let (key, entry) = self.entry(service);
                if entry.set_slice(&name, slice) {
                    self.mark(key);
                }
            }
            Update::NodeIps(ips) => {
                if self.node.config.node_ips != ips {
                    self.node.config.node_ips = ips;
                    self.due.extend(self.entries.keys().cloned());
                }
            }
            Update::Zone(zone) => {
                if self.node.zone != zone {
                    self.node.zone = zone;
                    self.due.extend(self.entries.keys().cloned());
                }
            }
        }
    }

    fn entry(&mut self, name: String) -> (Key, &mut Entry) {
        let key: Key = match self.entries.get_key_value(name.as_str()) {
            Some((key, _)) => key.clone(),
            None => Arc::from(name),
        };
        (key.clone(), self.entries.entry(key).or_default())
    }

    fn mark(&mut self, key: Key) {
        self.due.insert(key);
    }

    /// Makes the kernel do what all updates so far ask for, in one transaction per address family. After an error
    /// the next call starts from what the kernel holds.
    pub fn sync(&mut self) -> Result<Commit, net::Error> {
        let change = self.work_off();
        self.stale.extend(change.stale.iter().copied());
        if self.reconciled {
            self.reconciled = false;
            let commit = self.kernel.commit(&change)?;
            self.reconciled = true;
            return Ok(commit);
        }
        // Before the first transaction everything is new, and nobody has waited with a stale connection.
        self.stale.retain(|stale| stale.endpoint.is_some());
        let commit = self.kernel.reconcile(&self.model.everything())?;
        self.reconciled = true;
        Ok(commit)
    }

    /// Has the kernel forget connections to what is gone. To be called after [`Engine::sync`], so that nothing is
    /// remembered anew by the old rules, in the same network namespace.
    pub fn forget_stale(&mut self) -> Result<(), net::Error> {
        if self.stale.is_empty() {
            return Ok(());
        }
        let stale = std::mem::take(&mut self.stale);
        let flows: Vec<Flows> = stale
            .into_iter()
            .map(|Stale { frontend, endpoint }| Flows {
                protocol: frontend.protocol.number(),
                destination: SocketAddr::new(frontend.ip, frontend.port),
                endpoint,
            })
            .collect();
        Conntrack::open()?.forget(&flows).map(|_| ())
    }

    fn work_off(&mut self) -> Change {
        let mut due: Vec<Key> = std::mem::take(&mut self.due).into_iter().collect();
        // In order, so that of two Services that want one address always the same has it.
        due.sort_unstable();
        while !due.is_empty() {
            let mut next = Vec::new();
            for key in due {
                let desired = self.render(&key);
                next.extend(self.model.apply(&key, desired));
                if self.entries.get(&key).is_some_and(|e| e.spec.is_none() && e.slices.is_empty()) {
                    self.entries.remove(&key);
                }
            }
            due = next;
        }
        self.model.finish()
    }

    fn render(&mut self, key: &Key) -> Desired {
        let entry = self.entries.get(key);
        let spec = entry.and_then(|entry| entry.spec.as_ref());
        let (Some(entry), Some(spec)) = (entry, spec) else {
            self.health.remove(key);
            for keys in &mut self.no_local {
                keys.remove(key);
            }
            return Desired::default();
        };
        let slices: Vec<&Slice> = entry.slices.iter().map(|(_, slice)| slice).collect();
        let desired = render(spec, &slices, &self.node);
        match spec.health_check_port {
            Some(port) => {
                let local_endpoints = desired.local_ready;
                let health = LocalHealth { port, service: key.clone(), local_endpoints };
                self.health.insert(key.clone(), health);
            }
            None => drop(self.health.remove(key)),
        }
        let without = [desired.no_local_internal, desired.no_local_external];
        for (keys, without) in self.no_local.iter_mut().zip(without) {
            if without {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        desired
    }
}
