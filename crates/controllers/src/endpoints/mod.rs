//! Keeps the Endpoints object of each Service, for clients that do not know EndpointSlices.

mod build;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Endpoints;
use kube::api::DeleteParams;

use crate::Loops;
use crate::endpointslice::trigger::{self, Triggers};
use crate::endpointslice::{has_endpoints, selects, watch_pods};
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.services.on(move |change| {
        if let Some(service) = change.object() {
            due.add(Key::of(&**service));
        }
    });
    watch_pods(world, &queue);
    let (due, seen) = (queue.clone(), world.clone());
    world.endpoints.on(move |change| {
        if let Some(endpoints) = change.object()
            && seen.services.by_key(&Key::of(&**endpoints)).is_some_and(|service| has_endpoints(&service))
        {
            due.add_lazily(Key::of(&**endpoints));
        }
    });
    loops.add(EndpointsController { world: world.clone(), triggers: Triggers::default() }, queue);
}

struct EndpointsController {
    world: Arc<World>,
    triggers: Triggers,
}

impl Controller for EndpointsController {
    const NAME: &'static str = "endpoint-controller";
    const QUEUE: &'static str = "endpoint";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let current = self.world.endpoints.by_key(key);
        let Some(service) = self.world.services.by_key(key) else {
            self.triggers.forget(key);
            // Endpoints have no owner: they go by name.
            if let Some(current) = current.filter(|current| is_ours(current)) {
                self.world.endpoints.delete(&*current, DeleteParams::default()).await?;
            }
            return Ok(None);
        };
        if !has_endpoints(&service) || meta::is_terminating(&*service) {
            return Ok(None);
        }
        let mut pods = self.world.pods.by_namespace(&key.namespace);
        pods.retain(|pod| selects(&service, pod));
        pods.sort_by(|a, b| meta::name(&**a).cmp(meta::name(&**b)));
        let mut wanted = build::endpoints(&service, &pods, current.as_deref());
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        match self.triggers.next(&service, &pods) {
            Some(time) => drop(annotations.insert(trigger::ANNOTATION.to_owned(), time)),
            None => drop(annotations.remove(trigger::ANNOTATION)),
        }
        match current {
            None => match self.world.endpoints.create(&wanted).await {
                Err(error) if !error.is_namespace_terminating() => return Err(error),
                _ => {}
            },
            Some(current) if differs(&current, &wanted) => {
                self.world.endpoints.replace(&wanted).await?;
            }
            Some(_) => {}
        }
        Ok(None)
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("endpoints.kubernetes.io/managed-by"))
        .is_some_and(|by| by == "endpoint-controller")
}

fn differs(current: &Endpoints, wanted: &Endpoints) -> bool {
    let annotation = |endpoints: &Endpoints| {
        meta::annotation(endpoints, "endpoints.kubernetes.io/over-capacity").map(str::to_owned)
    };
    current.subsets != wanted.subsets
        || current.metadata.labels != wanted.metadata.labels
        || annotation(current) != annotation(wanted)
}
