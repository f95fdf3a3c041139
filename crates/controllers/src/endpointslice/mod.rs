//! Keeps the EndpointSlices of Services: which pods answer, at which ports, and whether they are ready.

pub mod build;
pub mod reconcile;
#[cfg(test)]
mod tests;
mod topology;
pub mod trigger;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::DeleteParams;

use crate::Loops;
use crate::kit::{Change, Controller, Key, Queue, SyncError, World, meta, pods};
use reconcile::Kept;
use trigger::Triggers;

pub const MANAGER: &str = "endpointslice-controller.k8s.io";

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.services.on(move |change| {
        if let Some(service) = change.new {
            due.add(Key::of(&**service));
        }
    });
    watch_pods(world, &queue);

    let due = queue.clone();
    world.endpoint_slices.on(move |change| {
        let Some(slice) = change.object() else { return };
        let label = |label: &str| slice.metadata.labels.as_ref().and_then(|labels| labels.get(label));
        if let Some(service) = label(reconcile::SERVICE_NAME)
            .filter(|_| label(reconcile::MANAGED_BY).is_some_and(|by| by == MANAGER))
        {
            due.add_lazily(Key::new(meta::namespace(&**slice), service));
        }
    });

    // What of a node decides about shares of its zone.
    let (due, seen) = (queue.clone(), world.clone());
    world.nodes.on(move |change| {
        let part = |node: &Arc<k8s_openapi::api::core::v1::Node>| topology::part(node);
        if change.old.and_then(part) != change.new.and_then(part) {
            for service in seen.services.list().iter().filter(|service| topology::is_asked(service)) {
                due.add_lazily(Key::of(&**service));
            }
        }
    });
    // Only the zone of a node is told, and it hardly ever changes.
    let (due, seen) = (queue.clone(), world.clone());
    world.nodes.on(move |change| {
        let zone = |node: &Arc<k8s_openapi::api::core::v1::Node>| {
            node.metadata.labels.as_ref().and_then(|labels| labels.get(build::ZONE_LABEL)).cloned()
        };
        if change.is_update() && change.old.and_then(zone) != change.new.and_then(zone) {
            for service in seen.services.list() {
                due.add_lazily(Key::of(&*service));
            }
        }
    });
    loops.add(EndpointSlices { world: world.clone(), triggers: Triggers::default() }, queue);
}

/// Makes the Services due whose endpoints a change of a pod changes: at once if one of them has failed.
pub fn watch_pods(world: &Arc<World>, due: &Queue) {
    let (due, seen) = (due.clone(), world.clone());
    world.pods.on(move |change| {
        let Some(pod) = change.object() else { return };
        if !changes_endpoints(change) {
            return;
        }
        let lost = !change.new.is_some_and(|pod| pods::is_ready(pod) && !meta::is_terminating(&**pod));
        for service in seen.services.by_namespace(meta::namespace(&**pod)) {
            let picks = |pod: &Arc<Pod>| selects(&service, pod);
            if change.new.is_some_and(picks) || change.old.is_some_and(picks) {
                let key = Key::of(&*service);
                if lost { due.add(key) } else { due.add_lazily(key) }
            }
        }
    });
}

fn changes_endpoints(change: &Change<'_, Pod>) -> bool {
    let told = |pod: &Arc<Pod>| {
        let ips = pod.status.as_ref().and_then(|status| status.pod_ips.clone());
        ips.map(|ips| (ips, pods::is_ready(pod), pods::is_finished(pod), meta::is_terminating(&**pod)))
    };
    let labels = |pod: &Arc<Pod>| pod.metadata.labels.clone();
    let (old, new) = (change.old.and_then(told), change.new.and_then(told));
    old != new || (change.is_update() && change.old.map(labels) != change.new.map(labels))
}

pub fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty() && meta::labels_match(selector, pod.metadata.labels.as_ref())
    })
}

/// Whether the endpoints of a Service come from pods: not if it is only a name, or its user keeps them.
pub fn has_endpoints(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let selector = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    selector && spec.type_.as_deref() != Some("ExternalName")
}

struct EndpointSlices {
    world: Arc<World>,
    triggers: Triggers,
}

impl Controller for EndpointSlices {
    const NAME: &'static str = "endpoint-slice-controller";
    const QUEUE: &'static str = "endpoint_slice";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        // The slices of a Service that is gone are garbage, and collected as such.
        let service = self.world.services.by_key(key);
        let Some(service) =
            service.filter(|service| has_endpoints(service) && !meta::is_terminating(&**service))
        else {
            self.triggers.forget(key);
            return Ok(None);
        };
        let mut pods = self.world.pods.by_namespace(&key.namespace);
        pods.retain(|pod| selects(&service, pod));
        pods.sort_by(|a, b| meta::name(&**a).cmp(meta::name(&**b)));
        let mut groups = build::groups(&service, &pods, |node| self.world.nodes.get("", node));
        if topology::is_asked(&service) {
            self.give_hints(&service, &mut groups);
        }
        let existing = slices_of(&self.world, key, MANAGER);
        let trigger = self.triggers.next(&service, &pods);
        let kept = Kept {
            service: &service,
            manager: MANAGER,
            labels: service.metadata.labels.as_ref(),
            trigger: trigger.as_deref(),
        };
        let changes = reconcile::reconcile(&kept, groups, &existing);
        apply(&self.world, changes).await?;
        Ok(None)
    }
}

impl EndpointSlices {
    fn give_hints(&self, service: &Service, groups: &mut [build::Group]) {
        groups.iter_mut().flat_map(|group| &mut group.endpoints).for_each(|endpoint| endpoint.hints = None);
        let nodes = self.world.nodes.list();
        let events = &self.world.events;
        for family in groups.chunk_by_mut(|a, b| a.address_type == b.address_type) {
            let Some(address_type) = family.first().map(|group| group.address_type) else { continue };
            match topology::give_hints(family, &nodes) {
                Ok(()) => {
                    let message =
                        format!("Topology Aware Hints has been enabled, addressType: {address_type}");
                    events.normal(Self::NAME, service, "TopologyAwareHintsEnabled", message);
                }
                Err(why) => {
                    let message = format!("{why}, addressType: {address_type}");
                    events.warning(Self::NAME, service, "TopologyAwareHintsDisabled", message);
                }
            }
        }
    }
}

/// The slices that `manager` keeps for a Service.
pub fn slices_of(
    world: &World,
    key: &Key,
    manager: &str,
) -> Vec<Arc<k8s_openapi::api::discovery::v1::EndpointSlice>> {
    let mut slices = world.endpoint_slices.by_namespace(&key.namespace);
    slices.retain(|slice| {
        let label = |label: &str| {
            slice.metadata.labels.as_ref().and_then(|labels| labels.get(label)).map(String::as_str)
        };
        label(reconcile::SERVICE_NAME) == Some(&key.name) && label(reconcile::MANAGED_BY) == Some(manager)
    });
    slices
}

pub async fn apply(world: &World, changes: reconcile::Changes) -> Result<(), SyncError> {
    for slice in &changes.create {
        match world.endpoint_slices.create(slice).await {
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            result => result.map(drop)?,
        }
    }
    for slice in &changes.update {
        world.endpoint_slices.replace(slice).await?;
    }
    for slice in &changes.delete {
        world.endpoint_slices.delete(&**slice, DeleteParams::default()).await?;
    }
    Ok(())
}
