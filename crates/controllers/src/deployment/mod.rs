//! Rolls a set of pods from one template to the next: Deployment.

mod plan;
mod revision;
mod rolling;
mod scale;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::Loops;
use crate::kit::{Context, Controller, Key, Queue, SyncError, World, claim, meta, pods};
use plan::Plan;
use revision::Sets;
use status::Progress;

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.deployments.on(move |change| {
        if let Some(deployment) = change.new {
            due.add(Key::of(&**deployment));
        }
    });

    let (due, seen) = (queue.clone(), world.clone());
    world.replica_sets.on(move |change| {
        let Some(set) = change.object() else { return };
        match meta::owner_key::<Deployment>(&set.metadata) {
            // Only its status has changed: of many such changes the last one tells everything.
            Some(key) if change.is_update() => due.add_lazily(key),
            Some(key) => due.add(key),
            None => {
                for deployment in seen.deployments.by_namespace(meta::namespace(&**set)) {
                    if selects(&deployment, set) {
                        due.add(Key::of(&*deployment));
                    }
                }
            }
        }
    });

    // `Recreate` waits for the last old pod.
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| {
        let Some(pod) = change.object() else { return };
        if change.new.is_some_and(|pod| !pods::is_finished(pod)) {
            return;
        }
        let set = meta::owner_key::<ReplicaSet>(&pod.metadata).and_then(|key| seen.replica_sets.by_key(&key));
        let Some(key) = set.and_then(|set| meta::owner_key::<Deployment>(&set.metadata)) else { return };
        let deployment = seen.deployments.by_key(&key);
        if deployment.is_some_and(|deployment| deployment.spec.as_ref().is_some_and(rolling::is_recreate)) {
            due.add(key);
        }
    });
    loops.add(Deployments { world: world.clone() }, queue);
}

fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let spec = deployment.spec.as_ref();
    spec.is_some_and(|spec| meta::selects_strictly(&spec.selector, set.metadata.labels.as_ref()))
}

struct Deployments {
    world: Arc<World>,
}

impl Controller for Deployments {
    const NAME: &'static str = "deployment-controller";
    const QUEUE: &'static str = "deployment";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(deployment) = self.world.deployments.by_key(key) else {
            return Ok(None);
        };
        let Some(spec) = &deployment.spec else {
            return Ok(None);
        };
        let picks = |labels: Option<&meta::Labels>| meta::selects_strictly(&spec.selector, labels);
        let sets = claim::claim(&*deployment, &self.world.replica_sets, picks).await?;
        let old_pods_run = rolling::is_recreate(spec) && self.old_pods_run(&Sets::of(spec, &sets));
        let plan = plan::plan(&deployment, spec, &sets, old_pods_run);
        let outcome = self.carry_out(&deployment, plan).await?;
        self.tell(key, spec, &deployment, &outcome).await
    }
}

/// What has become of a plan, as far as the status tells it.
struct Outcome {
    progress: Option<Progress>,
    error: Option<SyncError>,
    collided: bool,
}

impl Deployments {
    fn old_pods_run(&self, sets: &Sets) -> bool {
        let mut pods = sets.old.iter().flat_map(|set| self.world.pods.by_controller(meta::uid(set)));
        pods.any(|pod| !pods::is_finished(&pod))
    }

    async fn carry_out(&self, deployment: &Arc<Deployment>, plan: Plan) -> Result<Outcome, SyncError> {
        let mut outcome = Outcome { progress: plan.progress, error: None, collided: false };
        if let Some(revision) = plan.revision {
            let patch = json!({"metadata": {"annotations": {revision::REVISION: revision.to_string()}}});
            // With the status: as a change of the Deployment itself it would be a new generation.
            self.world.deployments.merge_patch_status(&Key::of(&**deployment), &patch).await?;
        }
        if let Some(set) = plan.create {
            match self.create(deployment, &set).await {
                Ok(true) => outcome.progress = Some(Progress::Created(meta::name(&set).to_owned())),
                Ok(false) => outcome.collided = true,
                Err(error) => {
                    let message = format!(
                        "Failed to create new replica set \"{}\": {}",
                        meta::name(&set),
                        error.api_message()
                    );
                    if !error.is_namespace_terminating() {
                        self.world.events.warning(
                            Self::NAME,
                            &**deployment,
                            "ReplicaSetCreateError",
                            &message,
                        );
                    }
                    outcome.progress = Some(Progress::CreateFailed(message));
                    outcome.error = Some(error);
                }
            }
        }
        for (set, before) in plan.update {
            self.world.replica_sets.replace(&set).await?;
            self.tell_scaled(deployment, &set, before);
        }
        for set in plan.delete {
            self.world.replica_sets.delete(&set, DeleteParams::background()).await?;
        }
        Ok(outcome)
    }

    /// Creates the set of the current template. False if its name belongs to another template's set.
    async fn create(&self, deployment: &Arc<Deployment>, set: &ReplicaSet) -> Result<bool, SyncError> {
        match self.world.replica_sets.create(set).await {
            Ok(_) => {
                self.tell_scaled(deployment, set, 0);
                Ok(true)
            }
            Err(error) if error.is_already_exists() => {
                let api: Api<ReplicaSet> = self.world.replica_sets.api(meta::namespace(set));
                let name = meta::name(set);
                let found = api.get(name).await.context("get", || format!("ReplicaSet {name}"))?;
                let template = |set: &ReplicaSet| {
                    set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
                };
                let ours = meta::is_controlled_by(&found.metadata, meta::uid(&**deployment))
                    && revision::same_template(&template(&found), &template(set));
                if ours {
                    self.world.replica_sets.assume(found);
                }
                Ok(ours)
            }
            Err(error) => Err(error),
        }
    }

    fn tell_scaled(&self, deployment: &Arc<Deployment>, set: &ReplicaSet, before: i32) {
        let (size, name) = (rolling::size(set), meta::name(set));
        let message = match size.cmp(&before) {
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => format!("Scaled up replica set {name} from {before} to {size}"),
            std::cmp::Ordering::Less => format!("Scaled down replica set {name} from {before} to {size}"),
        };
        self.world.events.normal(Self::NAME, &**deployment, "ScalingReplicaSet", message);
    }

    async fn tell(
        &self,
        key: &Key,
        spec: &DeploymentSpec,
        acted_upon: &Deployment,
        outcome: &Outcome,
    ) -> Result<Option<Duration>, SyncError> {
        let Some(current) = self.world.deployments.by_key(key) else {
            return Ok(None);
        };
        let now = meta::now();
        let sets = Sets::of(spec, &self.world.replica_sets.by_controller(meta::uid(&*current)));
        let generation = acted_upon.metadata.generation;
        let mut status = status::status(&current, spec, &sets, outcome.progress.as_ref(), generation, &now);
        if outcome.collided {
            // Another hash, and with it another name, at the next try.
            status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        }
        let again = status::next_deadline(spec, &status, &now);
        if current.status.as_ref() != Some(&status) {
            let updated = Deployment { status: Some(status), ..(*current).clone() };
            self.world.deployments.replace_status(&updated).await?;
        }
        match &outcome.error {
            Some(error) if !error.is_namespace_terminating() => {
                Err(SyncError::Waiting(format!("its ReplicaSet: {error}")))
            }
            _ => Ok(again),
        }
    }
}
