//! Keeps the size of a workload such that its metrics stay near their targets: HorizontalPodAutoscaler.
//!
//! Metrics cannot be watched, so each autoscaler looks at them every 15 seconds. [`metrics`] asks for them, [`ratio`]
//! says what they call for, [`behavior`] how fast that may be followed, [`status`] how all of it is told.

mod behavior;
mod evaluate;
mod metrics;
mod ratio;
mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

use crate::Loops;
use crate::garbage_collector::Resources;
use crate::kit::{Controller, Key, Queue, SyncError, World, brief, meta};
use behavior::{History, Rules};
use evaluate::{Evaluation, Target};
use status::{Conditions, limit_conditions};

const PERIOD: Duration = Duration::from_secs(15);

pub fn start(world: &Arc<World>, loops: &mut Loops, resources: Arc<Resources>) {
    let queue = Queue::default();
    let histories = Arc::new(Mutex::new(HashMap::<String, History>::new()));
    let (due, forgotten) = (queue.clone(), histories.clone());
    world.horizontal_pod_autoscalers.on(move |change| match (change.old, change.new) {
        (Some(old), None) => drop(forgotten.lock().remove(meta::uid(&**old))),
        (old, Some(new)) => {
            // Its own status is not news to it.
            if old.is_none_or(|old| old.spec != new.spec) {
                due.add(Key::of(&**new));
            }
        }
        (None, None) => {}
    });
    loops.add(Autoscalers { world: world.clone(), resources, histories }, queue);
}

struct Autoscalers {
    world: Arc<World>,
    resources: Arc<Resources>,
    /// Recent recommendations and changes of size, by the autoscaler's UID.
    histories: Arc<Mutex<HashMap<String, History>>>,
}

/// What one look has come to.
struct Verdict {
    current: i32,
    desired: i32,
    reason: String,
    rescale: bool,
}

impl Controller for Autoscalers {
    const NAME: &'static str = "horizontal-pod-autoscaler";
    const QUEUE: &'static str = "horizontalpodautoscaler";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(hpa) = self.world.horizontal_pod_autoscalers.by_key(key) else { return Ok(None) };
        if meta::is_terminating(&*hpa) {
            return Ok(None);
        }
        let mut conditions = Conditions::of(&hpa);
        let mut status = hpa.status.clone().unwrap_or_default();
        self.look(&hpa, &mut conditions, &mut status).await;
        status.conditions = conditions.into_told();
        status.observed_generation = hpa.metadata.generation;
        if hpa.status.as_ref() != Some(&status) {
            let told = HorizontalPodAutoscaler { status: Some(status), ..(*hpa).clone() };
            self.world.horizontal_pod_autoscalers.replace_status(&told).await?;
        }
        Ok(Some(PERIOD))
    }
}

impl Autoscalers {
    /// One look at the workload and its metrics; what fails is told by conditions and events.
    async fn look(
        &self,
        hpa: &Arc<HorizontalPodAutoscaler>,
        conditions: &mut Conditions,
        status: &mut HorizontalPodAutoscalerStatus,
    ) {
        let target = &hpa.spec.scale_target_ref;
        let (api, scale) = match self.scale(hpa).await {
            Ok(found) => found,
            Err(error) => {
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {error}");
                conditions.set("AbleToScale", false, "FailedGetScale", message);
                self.world.events.warning(Self::NAME, &**hpa, "FailedGetScale", error);
                return;
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        conditions.set("AbleToScale", true, "SucceededGetScale", message.to_owned());

        let verdict = self.judge(hpa, &scale, conditions, status).await;
        status.current_replicas = Some(scale.status.as_ref().map_or(0, |status| status.replicas));
        let Some(verdict) = verdict else { return };
        status.desired_replicas = verdict.desired;
        if !verdict.rescale || verdict.desired == verdict.current {
            return;
        }
        match self.rescale(&api, &target.name, scale, verdict.desired).await {
            Ok(()) => {
                let message =
                    format!("the HPA controller was able to update the target scale to {}", verdict.desired);
                conditions.set("AbleToScale", true, "SucceededRescale", message);
                let message = format!("New size: {}; reason: {}", verdict.desired, verdict.reason);
                self.world.events.normal(Self::NAME, &**hpa, "SuccessfulRescale", message);
                status.last_scale_time = Some(meta::now());
                let mut histories = self.histories.lock();
                let history = histories.entry(meta::uid(&**hpa).to_owned()).or_default();
                history.scaled(verdict.desired - verdict.current, Timestamp::now());
            }
            Err(error) => {
                let error = brief(&error);
                let message = format!("the HPA controller was unable to update the target scale: {error}");
                conditions.set("AbleToScale", false, "FailedUpdateScale", message);
                let message =
                    format!("New size: {}; reason: {}; error: {error}", verdict.desired, verdict.reason);
                self.world.events.warning(Self::NAME, &**hpa, "FailedRescale", message);
                status.desired_replicas = verdict.current;
            }
        }
    }

    async fn scale(&self, hpa: &HorizontalPodAutoscaler) -> Result<(Api<DynamicObject>, Scale), String> {
        let target = &hpa.spec.scale_target_ref;
        let api_version = target.api_version.as_deref().unwrap_or("v1");
        let (resource, scope) = self
            .resources
            .of_kind(api_version, &target.kind)
            .ok_or_else(|| format!("no matches for kind {:?} in version {api_version:?}", target.kind))?;
        let api = self.resources.api(&resource, &scope, meta::namespace(hpa));
        let scale = api.get_scale(&target.name).await.map_err(|error| brief(&error))?;
        Ok((api, scale))
    }

    /// Sets the size. The target may have changed since it was looked at; unless its size has, that changes nothing.
    async fn rescale(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        mut seen: Scale,
        desired: i32,
    ) -> Result<(), kube::Error> {
        loop {
            let version = &seen.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": desired}});
            match api.patch_scale(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => {
                    let now = api.get_scale(name).await?;
                    if now.spec != seen.spec || now.metadata.resource_version == *version {
                        return Err(kube::Error::Api(status));
                    }
                    seen = now;
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    /// The size that the target should have. Nothing if that cannot be said.
    async fn judge(
        &self,
        hpa: &Arc<HorizontalPodAutoscaler>,
        scale: &Scale,
        conditions: &mut Conditions,
        status: &mut HorizontalPodAutoscalerStatus,
    ) -> Option<Verdict> {
        let spec = &hpa.spec;
        let current = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let least = spec.min_replicas.unwrap_or(1);
        let verdict = |desired: i32, reason: &str| {
            Some(Verdict { current, desired, reason: reason.to_owned(), rescale: true })
        };
        if current == 0 && least != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            conditions.set("ScalingActive", false, "ScalingDisabled", message.to_owned());
            return Some(Verdict { current, desired: 0, reason: String::new(), rescale: false });
        }
        if current > spec.max_replicas {
            return verdict(spec.max_replicas, "Current number of replicas above Spec.MaxReplicas");
        }
        if current < least {
            return verdict(least, "Current number of replicas below Spec.MinReplicas");
        }

        let rules = Rules::of(hpa);
        let target = Target::new(&self.world, hpa, scale, &rules);
        let evaluation = match target.evaluate(&self.world.client, conditions).await {
            Ok(evaluation) => evaluation,
            Err(refusal) => {
                status.current_metrics = None;
                for (reason, message) in refusal.problems {
                    self.world.events.warning(Self::NAME, &**hpa, reason, message);
                }
                let message = refusal.message;
                self.world.events.warning(Self::NAME, &**hpa, "FailedComputeMetricsReplicas", message);
                return None;
            }
        };
        for (reason, message) in &evaluation.problems {
            self.world.events.warning(Self::NAME, &**hpa, reason, message.clone());
        }
        let Evaluation { replicas, metric, statuses, .. } = evaluation;
        status.current_metrics = Some(statuses);

        let mut histories = self.histories.lock();
        let history = histories.entry(meta::uid(&**hpa).to_owned()).or_default();
        let now = Timestamp::now();
        let stabilized = history.stabilize(&rules, current, replicas, now);
        conditions.set_told(stabilized.condition());
        let limited = history.limit(&rules, current, stabilized.replicas, (least, spec.max_replicas), now);
        limit_conditions(conditions, &limited);
        let reason = match limited.replicas.cmp(&current) {
            std::cmp::Ordering::Greater => format!("{metric} above target"),
            std::cmp::Ordering::Less => "All metrics below target".to_owned(),
            std::cmp::Ordering::Equal => String::new(),
        };
        Some(Verdict { current, desired: limited.replicas, reason, rescale: true })
    }
}
