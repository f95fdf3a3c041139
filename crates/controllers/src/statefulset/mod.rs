//! Keeps pods that have names and storage of their own: StatefulSet.

mod plan;
mod pods;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::json;

use crate::Loops;
use crate::kit::history::{self, History, Owned};
use crate::kit::pods::{is_active, phase};
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
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| {
        if let Some(pod) = change.new {
            let adopters = claim::adopters(&seen.stateful_sets, &pod.metadata, selects);
            adopters.into_iter().for_each(|key| due.add(key));
        }
        for pod in change.old.iter().chain(&change.new) {
            if let Some(key) = meta::owner_key::<StatefulSet>(&pod.metadata) {
                let ended = change.new.is_none_or(|pod| !is_active(pod));
                if ended { due.add(key) } else { due.add_lazily(key) }
            }
        }
    });
    loops.add(StatefulSets { world: world.clone() }, queue);
}

fn selects(set: &StatefulSet, labels: Option<&meta::Labels>) -> bool {
    set.spec.as_ref().is_some_and(|spec| meta::selects_strictly(&spec.selector, labels))
}

struct StatefulSets {
    world: Arc<World>,
}

impl Controller for StatefulSets {
    const NAME: &'static str = "statefulset-controller";
    const QUEUE: &'static str = "statefulset";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(set) = self.world.stateful_sets.by_key(key) else { return Ok(None) };
        let Some(spec) = &set.spec else { return Ok(None) };
        // A pod that merely has the labels, but none of the names, is somebody else's.
        let picks = |labels: Option<&meta::Labels>| meta::selects_strictly(&spec.selector, labels);
        let is_named = |pod: &Pod| pods::ordinal(&set, pod).is_some();
        let pods = claim::claim_some(&*set, &self.world.pods, picks, is_named).await?;
        if meta::is_terminating(&*set) {
            return Ok(None);
        }
        let collisions =
            set.status.as_ref().and_then(|status| status.collision_count).filter(|count| *count > 0);
        let asked = Owned {
            owner: &*set,
            selector: &spec.selector,
            template: &spec.template,
            collisions,
            marks: history::BY_NAME,
        };
        let History { current: update, all, collisions } = history::keep(&self.world, asked).await?;
        let told = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let current = all.iter().find(|revision| Some(meta::name(&***revision)) == told).unwrap_or(&update);
        let name = |revision: &ControllerRevision| meta::name(revision).to_owned();
        let revisions = Revisions { current: name(current), update: name(&update) };

        self.keep_claims(&set, spec, &pods).await?;
        let plan = plan::plan(&set, spec, &pods, &revisions, Timestamp::now());
        // The status tells what is there even if a step was refused.
        let stepped = self.step(&set, spec, &plan, current, &revisions).await;

        let pods = self.world.pods.by_controller(meta::uid(&*set));
        let mut status = plan::status(&set, spec, &pods, &revisions, Timestamp::now());
        status.collision_count = collisions.or(Some(0));
        if set.status.as_ref() != Some(&status) {
            let updated = StatefulSet { status: Some(status), ..(*set).clone() };
            self.world.stateful_sets.replace_status(&updated).await?;
        }
        let in_use = |revision: &ControllerRevision| {
            let name = meta::name(revision);
            name == revisions.current
                || name == revisions.update
                || pods.iter().any(|pod| plan::revision(pod) == name)
        };
        history::trim(&self.world, &all, in_use, spec.revision_history_limit).await?;
        stepped?;
        Ok(plan.again)
    }
}

impl StatefulSets {
    /// Has the claims of pods go with the pods or the set, as the retention policy says.
    async fn keep_claims(
        &self,
        set: &Arc<StatefulSet>,
        spec: &StatefulSetSpec,
        all: &[Arc<Pod>],
    ) -> Result<(), SyncError> {
        for pod in all {
            let Some(ordinal) = pods::ordinal(set, pod) else { continue };
            for wanted in pods::claims(set, spec, ordinal) {
                let key = Key::of(&wanted);
                let Some(claim) = self.world.persistent_volume_claims.by_key(&key) else {
                    // Without it the pod would wait for ever.
                    if phase(pod) == "Pending" && !meta::is_terminating(&**pod) {
                        self.create_claim(set, wanted, meta::name(&**pod)).await?;
                    }
                    continue;
                };
                if let Some(owners) = retention::owners(set, spec, pod, ordinal, &claim) {
                    let patch = json!({"metadata": {"resourceVersion": claim.metadata.resource_version,
                        "ownerReferences": owners}});
                    self.world.persistent_volume_claims.merge_patch(&key, &patch).await?;
                }
            }
        }
        Ok(())
    }

    async fn step(
        &self,
        set: &Arc<StatefulSet>,
        spec: &StatefulSetSpec,
        plan: &Plan,
        current: &ControllerRevision,
        revisions: &Revisions,
    ) -> Result<(), SyncError> {
        for birth in &plan.create {
            let template = if birth.revision == revisions.update { None } else { history::template(current) };
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
            if let Some(found) = self.world.persistent_volume_claims.by_key(&Key::of(&claim)) {
                // It goes with the pod that had it: the next pod must not begin with what is about to vanish.
                if retention::goes_with_a_pod(&found, &name) || meta::is_terminating(&*found) {
                    return Err(SyncError::Waiting(format!(
                        "PersistentVolumeClaim {} to go",
                        Key::of(&*found)
                    )));
                }
                continue;
            }
            self.create_claim(set, claim, &name).await?;
        }
        let what = format!("create Pod {name} in StatefulSet {}", meta::name(&**set));
        match self.world.pods.create(&pods::pod(set, spec, template, &birth.revision, birth.ordinal)).await {
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

    async fn create_claim(
        &self,
        set: &Arc<StatefulSet>,
        claim: PersistentVolumeClaim,
        pod: &str,
    ) -> Result<(), SyncError> {
        let events = &self.world.events;
        let what =
            format!("create Claim {} Pod {pod} in StatefulSet {}", meta::name(&claim), meta::name(&**set));
        match self.world.persistent_volume_claims.create(&claim).await {
            Ok(_) => events.normal(Self::NAME, &**set, "SuccessfulCreate", format!("{what} success")),
            Err(error) if error.is_already_exists() => {}
            Err(error) => {
                let message = format!("{what} failed error: {}", error.api_message());
                events.warning(Self::NAME, &**set, "FailedCreate", message);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn delete(&self, set: &Arc<StatefulSet>, pod: &Arc<Pod>) -> Result<(), SyncError> {
        let recreating = |how: &str| {
            let (namespace, set) = (meta::namespace(&**set), meta::name(&**set));
            format!("StatefulSet {namespace}/{set} is recreating {how} Pod {}", meta::name(&**pod))
        };
        let events = &self.world.events;
        match phase(pod) {
            "Failed" => events.warning(Self::NAME, &**set, "RecreatingFailedPod", recreating("failed")),
            "Succeeded" => {
                events.normal(Self::NAME, &**set, "RecreatingTerminatedPod", recreating("terminated"));
            }
            _ => {}
        }
        self.world.pods.delete(&**pod, DeleteParams::default()).await?;
        let message =
            format!("delete Pod {} in StatefulSet {} successful", meta::name(&**pod), meta::name(&**set));
        events.normal(Self::NAME, &**set, "SuccessfulDelete", message);
        Ok(())
    }
}
