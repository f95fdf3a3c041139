//! Empties namespaces that are being deleted, then lets them go.

mod conditions;
mod content;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;

use crate::Loops;
use crate::garbage_collector::Resources;
use crate::kit::{Context, Controller, Key, Queue, SyncError, World, meta, pods};

/// The finalizer (of `spec`, not of the metadata) that stands for the content.
const FINALIZER: &str = "kubernetes";
/// Looked again after this even if nothing has been told of an end.
const AGAIN: Duration = Duration::from_secs(15);

/// `resources` tells when an object of any kind has gone.
pub fn start(world: &Arc<World>, loops: &mut Loops, resources: &Resources) {
    let queue = Queue::default();
    let due = queue.clone();
    world.namespaces.on(move |change| {
        if let Some(namespace) = change.new.filter(|namespace| meta::is_terminating(&***namespace)) {
            due.add(Key::of(&**namespace));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    resources.on_count(move |name| {
        let key = Key::cluster(name);
        if seen.namespaces.by_key(&key).is_some_and(|namespace| meta::is_terminating(&*namespace)) {
            due.add_lazily(key);
        }
    });
    loops.add(Namespaces { world: world.clone() }, queue);
}

struct Namespaces {
    world: Arc<World>,
}

impl Controller for Namespaces {
    const NAME: &'static str = "namespace-controller";
    const QUEUE: &'static str = "namespace";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(namespace) = self.world.namespaces.by_key(key) else {
            return Ok(None);
        };
        if !meta::is_terminating(&*namespace) || !has_finalizer(&namespace) {
            return Ok(None);
        }
        let left = content::delete_all(&self.world.client, &key.name).await?;
        if left.is_empty() {
            return self.finalize(&namespace).await.map(|()| None);
        }
        if let Some(status) = conditions::status(namespace.status.as_ref(), &left, &meta::now()) {
            let told = Namespace { status: Some(status), ..(*namespace).clone() };
            self.world.namespaces.replace_status(&told).await?;
        }
        if left.refused.is_empty() && left.undiscovered.is_empty() {
            // The end of what remains makes the namespace due; this is for what nobody watches.
            return Ok(Some(self.grace_of_pods(&key.name).max(AGAIN)));
        }
        Err(SyncError::Waiting(format!("the content of Namespace {key} to go")))
    }
}

fn has_finalizer(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    finalizers.into_iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

impl Namespaces {
    fn grace_of_pods(&self, namespace: &str) -> Duration {
        let pods = self.world.pods.by_namespace(namespace);
        let running = pods.iter().filter(|pod| !pods::is_finished(pod));
        let seconds = running.filter_map(|pod| pod.metadata.deletion_grace_period_seconds).max().unwrap_or(0);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    async fn finalize(&self, namespace: &Arc<Namespace>) -> Result<(), SyncError> {
        let name = meta::name(&**namespace);
        let mut empty = (**namespace).clone();
        if let Some(finalizers) = empty.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        let api = self.world.namespaces.api("");
        match api.replace_subresource("finalize", name, &PostParams::default(), &empty).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error).context("finalize", || format!("Namespace {name}")),
        }
    }
}
