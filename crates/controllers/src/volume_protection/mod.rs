//! Holds back the deletion of claims that pods use, of volumes that are bound and of attribute classes that volumes
//! have, by finalizers.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use client::Watched;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::Resource;
use serde::Serialize;
use serde_json::json;

use crate::Loops;
use crate::kit::write::Reach;
use crate::kit::{Controller, Key, Queue, SyncError, View, World, meta, pods};

/// A kind whose objects must not go while they are in use.
trait Protected: Watched + Serialize + Resource<Scope: Reach<Self>> {
    const CONTROLLER: &'static str;
    const FINALIZER: &'static str;

    fn view(world: &World) -> &View<Self>;
    fn is_used(&self, world: &World) -> bool;
}

impl Protected for PersistentVolumeClaim {
    const CONTROLLER: &'static str = "pvc-protection-controller";
    const FINALIZER: &'static str = "kubernetes.io/pvc-protection";

    fn view(world: &World) -> &View<Self> {
        &world.persistent_volume_claims
    }

    fn is_used(&self, world: &World) -> bool {
        let pods = world.pods.by_namespace(meta::namespace(self));
        // A kubelet does not start a pod whose claim is going: one without a node does not use it yet. One that has
        // finished still does: its volumes may not be unmounted yet.
        let placed = pods.iter().filter(|pod| pods::node_name(pod).is_some());
        placed.into_iter().any(|pod| claims(pod).any(|claim| claim == meta::name(self)))
    }
}

impl Protected for PersistentVolume {
    const CONTROLLER: &'static str = "pv-protection-controller";
    const FINALIZER: &'static str = "kubernetes.io/pv-protection";

    fn view(world: &World) -> &View<Self> {
        &world.persistent_volumes
    }

    fn is_used(&self, _: &World) -> bool {
        self.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
    }
}

impl Protected for VolumeAttributesClass {
    const CONTROLLER: &'static str = "volumeattributesclass-protection-controller";
    const FINALIZER: &'static str = "kubernetes.io/vac-protection";

    fn view(world: &World) -> &View<Self> {
        &world.volume_attributes_classes
    }

    fn is_used(&self, world: &World) -> bool {
        let name = meta::name(self);
        world.persistent_volumes.list().iter().any(|volume| class_of_volume(volume) == Some(name))
            || world
                .persistent_volume_claims
                .list()
                .iter()
                .any(|claim| classes_of_claim(claim).any(|c| c == name))
    }
}

fn class_of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref()
}

/// The attribute classes that a claim has, wants, and is being changed to.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let has = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status
        .and_then(|status| status.modify_volume_status.as_ref())
        .and_then(|modify| modify.target_volume_attributes_class_name.as_deref());
    [wanted, has, target].into_iter().flatten()
}

/// The names of the claims that a pod uses, those made for it included.
pub fn claims(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", meta::name(pod), volume.name)),
        (None, None) => None,
    })
}

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    loops.start("persistentvolume-protection-controller", |loops| {
        drop(start_for::<PersistentVolume>(world, loops))
    });
    loops.start("volumeattributesclass-protection-controller", |loops| start_classes(world, loops));
    loops.start("persistentvolumeclaim-protection-controller", |loops| start_claims(world, loops));
}

fn start_classes(world: &Arc<World>, loops: &mut Loops) {
    let classes = start_for::<VolumeAttributesClass>(world, loops);
    let due = classes.clone();
    world.persistent_volumes.on(move |change| {
        for class in change.old.into_iter().filter_map(|volume| class_of_volume(volume)) {
            due.add(Key::cluster(class));
        }
    });
    world.persistent_volume_claims.on(move |change| {
        for class in change.old.into_iter().flat_map(|claim| classes_of_claim(claim)) {
            classes.add(Key::cluster(class));
        }
    });
}

fn start_claims(world: &Arc<World>, loops: &mut Loops) {
    let queue = start_for::<PersistentVolumeClaim>(world, loops);
    world.pods.on(move |change| {
        for pod in change.old.into_iter().filter(|_| change.new.is_none()) {
            for claim in claims(pod) {
                queue.add(Key::new(meta::namespace(&**pod), claim));
            }
        }
    });
}

fn start_for<K: Protected>(world: &Arc<World>, loops: &mut Loops) -> Queue {
    let queue = Queue::default();
    let due = queue.clone();
    K::view(world).on(move |change| {
        if let Some(object) = change.new {
            due.add(Key::of(&**object));
        }
    });
    let controller = Protection::<K> { world: world.clone(), kind: PhantomData };
    loops.add(controller, queue.clone());
    queue
}

struct Protection<K> {
    world: Arc<World>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Protected> Controller for Protection<K> {
    const NAME: &'static str = K::CONTROLLER;

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(object) = K::view(&self.world).by_key(key) else { return Ok(None) };
        let held = meta::has_finalizer(object.meta(), K::FINALIZER);
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        match (meta::is_terminating(&*object), held) {
            (false, false) => finalizers.push(K::FINALIZER.to_owned()),
            (true, true) if !object.is_used(&self.world) => {
                finalizers.retain(|finalizer| finalizer != K::FINALIZER)
            }
            _ => return Ok(None),
        }
        let version = &object.meta().resource_version;
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
        match K::view(&self.world).merge_patch(key, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(None),
        }
    }
}
