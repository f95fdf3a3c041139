//! Keeps the status of PodDisruptionBudgets, by which evictions are allowed or refused.

mod budget;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::Loops;
use crate::garbage_collector::Resources;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta, pods};

/// Who tells of budgets, by upstream's name.
const EVENTS: &str = "controllermanager";

/// `resources` knows how to ask for the scale of kinds that are not built in.
pub fn start(world: &Arc<World>, loops: &mut Loops, resources: Arc<Resources>) {
    let queue = Queue::default();
    let due = queue.clone();
    world.pod_disruption_budgets.on(move |change| {
        if let Some(budget) = change.new {
            due.add(Key::of(&**budget));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| {
        let Some(pod) = change.object() else { return };
        for budget in seen.pod_disruption_budgets.by_namespace(meta::namespace(&**pod)) {
            if change.old.iter().chain(&change.new).any(|pod| selects(&budget, pod)) {
                due.add_lazily(Key::of(&*budget));
            }
        }
    });
    loops.add(Disruption { world: world.clone(), resources }, queue);
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| meta::selects(selector, pod.metadata.labels.as_ref()))
}

struct Disruption {
    world: Arc<World>,
    resources: Arc<Resources>,
}

impl Controller for Disruption {
    const NAME: &'static str = "disruption-controller";
    const QUEUE: &'static str = "disruption";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(budget) = self.world.pod_disruption_budgets.by_key(key) else { return Ok(None) };
        let Some(spec) = &budget.spec else { return Ok(None) };
        let mut selected = self.world.pods.by_namespace(&key.namespace);
        selected.retain(|pod| selects(&budget, pod) && !pods::is_finished(pod));
        if selected.is_empty() {
            self.world.events.normal(EVENTS, &*budget, "NoPods", "No matching pods found");
        }
        let scale = if budget::needs_scale(spec) { self.scale(&budget, &selected).await } else { Ok(0) };
        if let Err(problem) = &scale {
            self.world.events.warning(EVENTS, &*budget, "CalculateExpectedPodCountFailed", problem.as_str());
        }
        let (status, again) = budget::status(&budget, spec, &selected, scale, &meta::now());
        if budget.status.as_ref() != Some(&status) {
            let updated = PodDisruptionBudget { status: Some(status), ..(*budget).clone() };
            self.world.pod_disruption_budgets.replace_status(&updated).await?;
        }
        Ok(again)
    }
}

impl Disruption {
    /// How many pods the controllers of these want together.
    async fn scale(&self, budget: &PodDisruptionBudget, selected: &[Arc<Pod>]) -> Result<i32, String> {
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        if selected.iter().any(|pod| meta::controller_of(&pod.metadata).is_none()) {
            let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the \
                           status of the PDB cannot be calculated correctly, which may result in undefined behavior. \
                           To account for these pods please set \".spec.minAvailable\" field of the PDB to an \
                           integer value.";
            self.world.events.warning(EVENTS, budget, "UnmanagedPods", message);
        }
        for pod in selected {
            let Some(owner) = meta::controller_of(&pod.metadata) else { continue };
            if !scales.contains_key(&owner.uid) {
                let (uid, scale) = match self.scale_of(pod) {
                    Some(known) => known,
                    None => (owner.uid.clone(), self.asked_scale(pod, owner).await?),
                };
                scales.insert(uid, scale);
            }
        }
        Ok(scales.values().sum())
    }

    /// The scale of a kind that this process does not follow, if it has one.
    async fn asked_scale(&self, pod: &Pod, owner: &OwnerReference) -> Result<i32, String> {
        let none = || format!("{} {:?} does not implement the scale subresource", owner.kind, owner.name);
        let (resource, scope) = self.resources.of_kind(&owner.api_version, &owner.kind).ok_or_else(none)?;
        let api = self.resources.api(&resource, &scope, meta::namespace(pod));
        let scale = api.get_scale(&owner.name).await.map_err(|_| none())?;
        Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))
    }

    fn scale_of(&self, pod: &Pod) -> Option<(String, i32)> {
        let world = &self.world;
        if let Some(key) = meta::owner_key::<ReplicaSet>(&pod.metadata) {
            let set = world.replica_sets.by_key(&key)?;
            if let Some(key) = meta::owner_key::<Deployment>(&set.metadata) {
                let deployment = world.deployments.by_key(&key)?;
                return Some((
                    meta::uid(&*deployment).to_owned(),
                    deployment.spec.as_ref()?.replicas.unwrap_or(1),
                ));
            }
            return Some((meta::uid(&*set).to_owned(), set.spec.as_ref()?.replicas.unwrap_or(1)));
        }
        if let Some(key) = meta::owner_key::<StatefulSet>(&pod.metadata) {
            let set = world.stateful_sets.by_key(&key)?;
            return Some((meta::uid(&*set).to_owned(), set.spec.as_ref()?.replicas.unwrap_or(1)));
        }
        let key = meta::owner_key::<ReplicationController>(&pod.metadata)?;
        let controller = world.replication_controllers.by_key(&key)?;
        Some((meta::uid(&*controller).to_owned(), controller.spec.as_ref()?.replicas.unwrap_or(1)))
    }
}
