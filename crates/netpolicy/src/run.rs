//! Following the API server and the runtime.
//!
//! Events are worked off on a thread of their own, because a transaction blocks. While one is made, events pile up and
//! become the next one: nothing is delayed on purpose, and nothing is done twice.

use std::sync::mpsc;
use std::time::Instant;

use client::{Delta, Informers, Subscription};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Pod as PodObject};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::gate::{Request, Requests};
use crate::kernel::Engine;
use crate::model::Update;
use crate::pod::Pod;
use crate::policy::Policy;
use crate::{Config, Error};

/// Enforces policies on this node until `shutdown`, and answers those who wait at the gate. What is in the kernel then
/// stays there.
pub fn run(
    informers: Informers,
    config: Config,
    requests: Requests,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(informers, config, requests, shutdown))
}

async fn run_until(
    informers: Informers,
    config: Config,
    mut requests: Requests,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut namespaces = informers.all::<Namespace>().subscribe();
    let mut policies = informers.all::<NetworkPolicy>().subscribe();
    let mut pods = informers.all::<PodObject>().subscribe();

    let engine = Engine::new(&config)?;
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().name("netpolicy".to_owned());
    thread.spawn(move || work(engine, &receiver)).map_err(Error::Thread)?;

    // Before everything is known, what an earlier process has put into the kernel holds, and new pods wait.
    let mut batch = Batch::default();
    tokio::select! {
        () = async {
            until_synced(&mut namespaces, &mut batch, namespace_update).await;
            until_synced(&mut policies, &mut batch, policy_update).await;
            until_synced(&mut pods, &mut batch, pod_update).await;
        } => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    while sender.send(batch).is_ok() {
        batch = Batch::default();
        tokio::select! {
            Some(delta) = namespaces.recv() => batch.updates.extend(namespace_update(&delta)),
            Some(delta) = policies.recv() => batch.updates.extend(policy_update(&delta)),
            Some(delta) = pods.recv() => batch.updates.extend(pod_update(&delta)),
            Some(Request { sandbox, done }) = requests.0.recv() => {
                batch.updates.push(Update::Sandbox(sandbox));
                batch.waiting.push(done);
            }
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    Ok(())
}

#[derive(Default)]
struct Batch {
    updates: Vec<Update>,
    /// Who is to be told when they are in force.
    waiting: Vec<oneshot::Sender<()>>,
}

async fn until_synced<K>(
    deltas: &mut Subscription<K>,
    batch: &mut Batch,
    convert: impl Fn(&Delta<K>) -> Option<Update>,
) {
    while let Some(delta) = deltas.recv().await {
        if matches!(delta, Delta::Synced) {
            return;
        }
        batch.updates.extend(convert(&delta));
    }
}

fn name_of(meta: &ObjectMeta) -> String {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", meta.name.as_deref().unwrap_or_default())
}

fn namespace_update(delta: &Delta<Namespace>) -> Option<Update> {
    let meta = &delta.object()?.metadata;
    let gone = matches!(delta, Delta::Deleted(_));
    Some(Update::Namespace {
        name: meta.name.clone().unwrap_or_default(),
        labels: (!gone).then(|| meta.labels.clone().unwrap_or_default()),
    })
}

fn policy_update(delta: &Delta<NetworkPolicy>) -> Option<Update> {
    let policy = delta.object()?;
    let gone = matches!(delta, Delta::Deleted(_));
    Some(Update::Policy { name: name_of(&policy.metadata), policy: (!gone).then(|| Policy::parse(policy)) })
}

fn pod_update(delta: &Delta<PodObject>) -> Option<Update> {
    let pod = delta.object()?;
    let gone = matches!(delta, Delta::Deleted(_));
    Some(Update::Pod { name: name_of(&pod.metadata), pod: if gone { None } else { Pod::parse(pod) } })
}

/// The thread that talks to the kernel.
fn work(mut engine: Engine, batches: &mpsc::Receiver<Batch>) {
    let mut waiting = Vec::new();
    let mut failed = false;
    while let Some(news) = net::work::next(batches, failed) {
        for batch in news {
            batch.updates.into_iter().for_each(|update| engine.update(update));
            waiting.extend(batch.waiting);
        }
        let started = Instant::now();
        match engine.sync() {
            Ok(commit) => {
                if commit.elements > 0 {
                    let took = started.elapsed();
                    tracing::debug!(
                        elements = commit.elements,
                        bytes = commit.bytes,
                        ?took,
                        "policies changed"
                    );
                }
                // Who does not wait any more has been told that it took too long.
                waiting.drain(..).for_each(|done: oneshot::Sender<()>| {
                    let _ = done.send(());
                });
                failed = false;
            }
            Err(error) => {
                tracing::error!(%error, "cannot change network policies in the kernel, trying again");
                failed = true;
            }
        }
    }
}
