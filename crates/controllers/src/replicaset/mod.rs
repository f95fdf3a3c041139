//! Keeps a number of equal pods: ReplicaSet, and ReplicationController, which is the same by an older name.

mod decide;
mod kinds;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;

use crate::Loops;
use crate::kit::pods::{self, is_active};
use crate::kit::{Change, Controller, Key, Queue, SyncError, World, claim, meta};
use decide::{Counts, Failure, Step};
use kinds::Replicated;

/// At most this many pods are created or deleted before the status is told.
const BURST: usize = 500;

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    loops.start("replicaset-controller", |loops| start_for::<ReplicaSet>(world, loops));
    loops.start("replicationcontroller-controller", |loops| start_for::<ReplicationController>(world, loops));
}

fn start_for<K: Replicated>(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    K::view(world).on(move |change| {
        if let Some(set) = change.object() {
            due.add(Key::of(&**set));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| pod_changed::<K>(&seen, &due, change));
    let controller = Replicas::<K> { world: world.clone(), kind: PhantomData };
    loops.add(controller, queue);
}

fn pod_changed<K: Replicated>(world: &World, due: &Queue, change: &Change<'_, Pod>) {
    let old_owner = change.old.and_then(|pod| meta::owner_key::<K>(&pod.metadata));
    let Some(pod) = change.new else {
        old_owner.into_iter().for_each(|key| due.add(key));
        return;
    };
    let owner = meta::owner_key::<K>(&pod.metadata);
    if old_owner != owner {
        old_owner.into_iter().for_each(|key| due.add(key));
    }
    if let Some(key) = owner {
        // The end of a pod calls for another at once; all else only changes counters.
        if is_active(pod) { due.add_lazily(key) } else { due.add(key) }
    } else {
        claim::adopters(K::view(world), &pod.metadata, K::selects).into_iter().for_each(|key| due.add(key));
    }
}

struct Replicas<K> {
    world: Arc<World>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Replicated> Controller for Replicas<K> {
    const NAME: &'static str = K::CONTROLLER;
    const QUEUE: &'static str = K::QUEUE;

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(set) = K::view(&self.world).by_key(key) else {
            return Ok(None);
        };
        let pods = claim::claim(&*set, &self.world.pods, |labels| set.selects(labels)).await?;
        let failure = match decide::step(&*set, &pods, BURST) {
            Step::Nothing => None,
            Step::Create(count) => self.create(&set, count).await,
            Step::Delete(count) => self.delete(&set, pods, count).await,
        };

        // What was just created or deleted is in the view already.
        let pods: Vec<_> = self.world.pods.by_controller(meta::uid(&*set));
        let Some(set) = K::view(&self.world).by_key(key) else {
            return Ok(None);
        };
        let (counts, again) = Counts::of(&*set, &pods, Timestamp::now());
        let told = failure.as_ref().map(|(failure, _)| failure);
        if let Some(updated) = set.with_status(&counts, told, meta::now()) {
            K::view(&self.world).replace_status(&updated).await?;
        }
        match failure {
            Some((_, error)) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(again),
        }
    }
}

impl<K: Replicated> Replicas<K> {
    /// Creates pods in batches that double, so that what refuses one pod is not asked for all.
    async fn create(&self, set: &Arc<K>, count: usize) -> Option<(Failure, SyncError)> {
        let mut left = count;
        let mut batch = 1;
        while left > 0 {
            let now = batch.min(left);
            let results = join_all((0..now).map(|_| self.create_one(set))).await;
            if let Some(error) = results.into_iter().find_map(Result::err) {
                return Some((Failure::create(error.api_message()), error));
            }
            left -= now;
            batch *= 2;
        }
        None
    }

    async fn create_one(&self, set: &Arc<K>) -> Result<(), SyncError> {
        let generate_name = Some(format!("{}-", meta::name(&**set)));
        let owner = meta::controller_reference(&**set);
        let template = set.template();
        let pod = pods::from_template(&template, meta::namespace(&**set), generate_name, owner);
        match self.world.pods.create(&pod).await {
            Ok(pod) => {
                let message = format!("Created pod: {}", meta::name(&*pod));
                self.world.events.normal(K::CONTROLLER, &**set, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let message = format!("Error creating: {}", error.api_message());
                    self.world.events.warning(K::CONTROLLER, &**set, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &Arc<K>, pods: Vec<Arc<Pod>>, count: usize) -> Option<(Failure, SyncError)> {
        let related = self.related(&**set);
        let mut active: Vec<_> = pods.into_iter().filter(|pod| is_active(pod)).collect();
        pods::sort_for_deletion(&mut active, &related, Timestamp::now());
        let deletions = active.iter().take(count).map(|pod| async {
            self.world.pods.delete(&**pod, DeleteParams::default()).await?;
            let message = format!("Deleted pod: {}", meta::name(&**pod));
            self.world.events.normal(K::CONTROLLER, &**set, "SuccessfulDelete", message);
            Ok::<_, SyncError>(())
        });
        let error = join_all(deletions).await.into_iter().find_map(Result::err)?;
        let message = format!("Error deleting: {}", error.api_message());
        self.world.events.warning(K::CONTROLLER, &**set, "FailedDelete", message);
        Some((Failure::delete(error.api_message()), error))
    }

    /// The pods of all sets that have the same owner, such as a Deployment.
    fn related(&self, set: &K) -> Vec<Arc<Pod>> {
        let sets = match meta::controller_of(set.meta()) {
            Some(owner) => K::view(&self.world).by_controller(&owner.uid),
            None => Vec::new(),
        };
        let pods = |uid: &str| self.world.pods.by_controller(uid);
        if sets.is_empty() {
            return pods(meta::uid(set));
        }
        sets.iter().flat_map(|set| pods(meta::uid(&**set))).collect()
    }
}
