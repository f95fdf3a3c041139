//! Following the API server.
//!
//! Events are gathered here and worked off on a thread of their own, because a transaction blocks. While one is made,
//! events pile up and become the next one: nothing is delayed on purpose, and nothing is done twice.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use client::{Delta, Informers, Subscription};
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::endpoints::Slice;
use crate::engine::{Engine, Update};
use crate::health::{self, Health};
use crate::metrics::REQUESTS;
use crate::service::ServiceSpec;
use crate::status::Status;
use crate::{Config, Error, Local, Metrics, node, pages};

/// Routes Services on this node until `shutdown`. What is in the kernel then stays there, so that connections
/// go on and the next process finds it.
pub fn run(
    informers: Informers,
    config: Config,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(informers, config, shutdown))
}

async fn run_until(
    informers: Informers,
    mut config: Config,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let informers = informers.acting_as(client::metered(informers.client(), &REQUESTS));
    let mut services = informers.all::<Service>().subscribe();
    let mut slices = informers.all::<EndpointSlice>().subscribe();
    let this_node = format!("metadata.name={}", config.node_name);
    let mut nodes = informers.fields::<Node>(&this_node).subscribe();

    let metrics = Metrics::default();
    let status = Arc::new(Status::default());
    pages::serve(&config, &metrics, &status, &shutdown).await?;
    if config.local == Local::NodeCidr {
        tokio::select! {
            cidrs = node::pod_cidrs(&informers, &config.node_name) => config.cluster_cidr = cidrs,
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    let (health_sender, health) = watch::channel(Health::new());
    tokio::spawn(health::serve(health, config.node_ips.clone(), status.clone(), shutdown.clone()));
    let following = Following { config: config.clone(), status: status.clone() };

    let worker =
        Worker { engine: Engine::new(config)?, metrics: metrics.clone(), health: health_sender, status };
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().name("proxy".to_owned());
    thread.spawn(move || worker.run(&receiver)).map_err(Error::Thread)?;

    let mut first = Vec::new();
    tokio::select! {
        () = async {
            until_synced(&mut services, &mut first, service_updates).await;
            until_synced(&mut slices, &mut first, slice_updates).await;
            let node_updates = |delta, updates: &mut _| following.node_updates(&delta, updates);
            until_synced(&mut nodes, &mut first, node_updates).await;
        } => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut batch = Batch { updates: first, triggers: Vec::new() };
    while sender.send(batch).is_ok() {
        let (mut updates, mut triggers) = (Vec::new(), Vec::new());
        tokio::select! {
            Some(delta) = services.recv() => {
                metrics.service_changes.inc();
                service_updates(delta, &mut updates);
            }
            Some(delta) = slices.recv() => {
                metrics.endpoint_changes.inc();
                triggers.extend(trigger_time(&delta));
                slice_updates(delta, &mut updates);
            }
            Some(delta) = nodes.recv() => following.node_updates(&delta, &mut updates),
            () = shutdown.cancelled() => return Ok(()),
        }
        batch = Batch { updates, triggers };
        metrics.queued();
    }
    Ok(())
}

struct Batch {
    updates: Vec<Update>,
    /// When what they are due to happened: pods became ready, or Services changed.
    triggers: Vec<Timestamp>,
}

/// When what changed the endpoints happened, as the controller that wrote them tells.
fn trigger_time(delta: &Delta<EndpointSlice>) -> Option<Timestamp> {
    const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
    let time = |slice: &EndpointSlice| slice.metadata.annotations.as_ref()?.get(TRIGGERED).cloned();
    let before = match delta {
        Delta::Updated { old, .. } => time(old),
        _ => None,
    };
    let now = time(delta.object()?).filter(|now| before.as_ref() != Some(now))?;
    now.parse().ok()
}

async fn until_synced<K>(
    deltas: &mut Subscription<K>,
    updates: &mut Vec<Update>,
    convert: impl Fn(Delta<K>, &mut Vec<Update>),
) {
    while let Some(delta) = deltas.recv().await {
        if matches!(delta, Delta::Synced) {
            return;
        }
        convert(delta, updates);
    }
}

fn service_updates(delta: Delta<Service>, updates: &mut Vec<Update>) {
    let Some(service) = delta.object() else { return };
    let meta = &service.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let gone = matches!(delta, Delta::Deleted(_));
    updates.push(Update::Service {
        name: format!("{namespace}/{}", meta.name.as_deref().unwrap_or_default()),
        spec: if gone { None } else { ServiceSpec::parse(service) },
    });
}

fn slice_updates(delta: Delta<EndpointSlice>, updates: &mut Vec<Update>) {
    let name = |slice: &EndpointSlice| slice.metadata.name.clone().unwrap_or_default();
    let mut push = |slice: &EndpointSlice, content| {
        if let Some(service) = Slice::service(slice) {
            updates.push(Update::Slice { service, name: name(slice), slice: content });
        }
    };
    match delta {
        Delta::Added(slice) => push(&slice, Some(Slice::parse(&slice))),
        Delta::Updated { old, new } => {
            if Slice::service(&old) != Slice::service(&new) {
                push(&old, None);
            }
            push(&new, Some(Slice::parse(&new)));
        }
        Delta::Deleted(slice) => push(&slice, None),
        Delta::Synced => {}
    }
}

/// What changes of this node's Node are about.
struct Following {
    config: Config,
    status: Arc<Status>,
}

impl Following {
    fn node_updates(&self, delta: &Delta<Node>, updates: &mut Vec<Update>) {
        let Some(node) = delta.object() else { return };
        self.status.set_eligible(!matches!(delta, Delta::Deleted(_)) && node::stays(node));
        updates.push(Update::Zone(node::zone(node)));
        updates.extend(node::port_addresses(node, &self.config).map(Update::NodeIps));
    }
}

/// The thread that talks to the kernel.
struct Worker {
    engine: Engine,
    metrics: Metrics,
    health: watch::Sender<Health>,
    status: Arc<Status>,
}

impl Worker {
    fn run(mut self, batches: &mpsc::Receiver<Batch>) {
        let mut failed = false;
        while let Some(news) = net::work::next(batches, failed) {
            let mut triggers = Vec::new();
            for batch in news {
                triggers.extend(batch.triggers);
                batch.updates.into_iter().for_each(|update| self.engine.update(update));
            }
            failed = !self.sync();
            self.status.synced(!failed);
            if !failed {
                self.metrics.programmed(&triggers);
            }
        }
    }

    fn sync(&mut self) -> bool {
        let started = Instant::now();
        match self.engine.sync() {
            Ok(commit) => {
                self.metrics.synced(started.elapsed());
                if commit.elements > 0 {
                    let took = started.elapsed();
                    tracing::debug!(
                        elements = commit.elements,
                        bytes = commit.bytes,
                        ?took,
                        "routes changed"
                    );
                }
            }
            Err(error) => {
                self.metrics.failures.inc();
                tracing::error!(%error, "cannot change service routes, trying again");
                return false;
            }
        }
        let [internal, external] = &self.engine.no_local;
        self.metrics.no_local_endpoints(internal.len(), external.len());
        if let Err(error) = self.engine.forget_stale() {
            tracing::warn!(%error, "datagrams to removed endpoints may be lost until their senders pause");
        }
        let health: Health =
            self.engine.health.values().map(|health| (health.port, health.clone())).collect();
        self.health.send_if_modified(|shown| {
            let changed = *shown != health;
            *shown = health;
            changed
        });
        true
    }
}
