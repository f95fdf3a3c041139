//! Keeps pods that have names and storage of their own: StatefulSet.

mod plan;
mod pods;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;

use crate::Loops;
use crate::kit::history::{self, HASH_LABEL};
use crate::kit::pods::is_active;
use crate::kit::{Controller, Key, Queue, SyncError, World, claim, meta};
use plan::{Birth, Plan, Revisions};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.stateful_sets.on(move |change| {
        if let Some(set) = change.new {
            due.add(Key::of(&**set));
        }
    });
    let due = queue.clone();
    world.pods.on(move |change| {
        for pod in change.old.iter().chain(&change.new) {
            if let Some(key) = meta::owner_key::<StatefulSet>(&pod.metadata) {
                let ended = change.new.is_none_or(|pod| !is_active(pod));
                if ended { due.add(key) } else { due.add_lazily(key) }
            }
        }
    });
    loops.add(StatefulSets { world: world.clone() }, queue);
}

struct StatefulSets {
    world: Arc<World>,
}

impl Controller for StatefulSets {
    const NAME: &'static str = "statefulset-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(set) = self.world.stateful_sets.by_key(key) else { return Ok(None) };
        let Some(spec) = &set.spec else { return Ok(None) };
        // A pod that merely has the labels, but none of the names, is somebody else's.
        let picks = |labels: Option<&meta::Labels>| meta::selects_strictly(&spec.selector, labels);
        let pods = claim::claim(&*set, &self.world.pods, picks).await?;
        if meta::is_terminating(&*set) {
            return Ok(None);
        }
        let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
        let collisions =
            set.status.as_ref().and_then(|status| status.collision_count).filter(|count| *count > 0);
        let (update, all) = history::current(&self.world, &*set, labels, &spec.template, collisions).await?;
        let told = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let current = all.iter().find(|revision| Some(meta::name(&***revision)) == told).unwrap_or(&update);
        let revisions = Revisions { current: hash_of(current), update: hash_of(&update) };

        let plan = plan::plan(&set, spec, &pods, &revisions, Timestamp::now());
        // The status tells what is there even if a step was refused.
        let stepped = self.step(&set, spec, &plan, current, &revisions).await;

        let pods = self.world.pods.by_controller(meta::uid(&*set));
        let names = (meta::name(&**current), meta::name(&*update));
        let status = plan::status(&set, spec, &pods, &revisions, names, Timestamp::now());
        if set.status.as_ref() != Some(&status) {
            let updated = StatefulSet { status: Some(status), ..(*set).clone() };
            self.world.stateful_sets.replace_status(&updated).await?;
        }
        let in_use = |revision: &ControllerRevision| {
            let hash = revision.metadata.labels.as_ref().and_then(|labels| labels.get(HASH_LABEL));
            let hash = hash.map_or("", String::as_str);
            hash == revisions.current
                || hash == revisions.update
                || pods.iter().any(|pod| plan::hash(pod) == hash)
        };
        history::trim(&self.world, &all, in_use, spec.revision_history_limit).await?;
        stepped?;
        Ok(plan.again)
    }
}

fn hash_of(revision: &ControllerRevision) -> String {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HASH_LABEL)).cloned().unwrap_or_default()
}

impl StatefulSets {
    async fn step(
        &self,
        set: &Arc<StatefulSet>,
        spec: &StatefulSetSpec,
        plan: &Plan,
        current: &ControllerRevision,
        revisions: &Revisions,
    ) -> Result<(), SyncError> {
        for birth in &plan.create {
            let template = if birth.hash == revisions.update { None } else { history::template(current) };
            self.create(set, spec, template.as_ref().unwrap_or(&spec.template), birth).await?;
        }
        for pod in &plan.delete {
            self.delete(set, pod).await?;
        }
        Ok(())
    }

    async fn create(
        &self,
        set: &Arc<StatefulSet>,
        spec: &StatefulSetSpec,
        template: &PodTemplateSpec,
        birth: &Birth,
    ) -> Result<(), SyncError> {
        let name = pods::pod_name(set, birth.ordinal);
        let events = &self.world.events;
        for claim in pods::claims(set, spec, birth.ordinal) {
            if self.world.persistent_volume_claims.by_key(&Key::of(&claim)).is_some() {
                continue;
            }
            let what = format!(
                "create Claim {} Pod {name} in StatefulSet {}",
                meta::name(&claim),
                meta::name(&**set)
            );
            match self.world.persistent_volume_claims.create(&claim).await {
                Ok(_) => events.normal(Self::NAME, &**set, "SuccessfulCreate", format!("{what} success")),
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let message = format!("{what} failed error: {}", error.api_message());
                    events.warning(Self::NAME, &**set, "FailedCreate", message);
                    return Err(error);
                }
            }
        }
        let what = format!("create Pod {name} in StatefulSet {}", meta::name(&**set));
        match self.world.pods.create(&pods::pod(set, spec, template, &birth.hash, birth.ordinal)).await {
            Ok(_) => events.normal(Self::NAME, &**set, "SuccessfulCreate", format!("{what} successful")),
            Err(error) if error.is_namespace_terminating() => {}
            Err(error) => {
                let message = format!("{what} failed error: {}", error.api_message());
                events.warning(Self::NAME, &**set, "FailedCreate", message);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn delete(&self, set: &Arc<StatefulSet>, pod: &Arc<Pod>) -> Result<(), SyncError> {
        self.world.pods.delete(&**pod, DeleteParams::default()).await?;
        let message =
            format!("delete Pod {} in StatefulSet {} successful", meta::name(&**pod), meta::name(&**set));
        self.world.events.normal(Self::NAME, &**set, "SuccessfulDelete", message);
        Ok(())
    }
}
