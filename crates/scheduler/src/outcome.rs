//! What the world is told of decisions: the pod's condition, events.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::json;
use tracing::debug;

use crate::pod::PodInfo;

/// Says in the pod's status why it waits, if it does not say so already.
/// With `no_longer_nominated` no room is kept for it any more either.
pub async fn explain(
    client: &kube::Client,
    pod: &PodInfo,
    reason: &str,
    message: &str,
    no_longer_nominated: bool,
) {
    let conditions = pod.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let told = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    let same = told.is_some_and(|told| {
        told.status == "False"
            && told.reason.as_deref() == Some(reason)
            && told.message.as_deref() == Some(message)
    });
    if same && !no_longer_nominated {
        return;
    }
    let since = told.filter(|told| told.status == "False").and_then(|told| told.last_transition_time.clone());
    let now = Timestamp::now();
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let mut patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": since.unwrap_or(now),
        "observedGeneration": pod.pod.metadata.generation,
    }]}});
    if no_longer_nominated && let Some(status) = patch.get_mut("status") {
        status["nominatedNodeName"] = serde_json::Value::Null;
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    if let Err(error) = api.patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await
    {
        debug!(pod = pod.name(), namespace = pod.namespace(), %error, "condition of a waiting pod is not told");
    }
}

/// What was told of a pod that waits, so that saying it again becomes a count instead of another event.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureNote {
    event: String,
    pub message: String,
    count: i32,
}

impl FailureNote {
    pub fn new(previous: Option<&Self>, pod: &PodInfo, message: String, now: Timestamp) -> Self {
        match previous.filter(|previous| previous.message == message) {
            Some(previous) => Self { count: previous.count.saturating_add(1), ..previous.clone() },
            None => Self { event: event_name(pod, now), message, count: 1 },
        }
    }
}

pub async fn record_failure(client: &kube::Client, scheduler: &str, pod: &PodInfo, note: &FailureNote) {
    let api: Api<Event> = Api::namespaced(client.clone(), pod.namespace());
    if note.count > 1 {
        let last = MicroTime(Timestamp::now());
        let patch = json!({"series": {"count": note.count, "lastObservedTime": last}});
        // One that has expired meanwhile is told anew.
        match api.patch(&note.event, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => return log_lost(pod, result),
        }
    }
    let mut event = event(scheduler, pod, "Warning", "FailedScheduling", "Scheduling", &note.message);
    event.metadata.name = Some(note.event.clone());
    log_lost(pod, api.create(&PostParams::default(), &event).await);
}

pub async fn record_scheduled(client: &kube::Client, scheduler: &str, pod: &PodInfo, node: &str) {
    let note = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
    record(client, pod, &event(scheduler, pod, "Normal", "Scheduled", "Binding", &note)).await;
}

pub async fn record_preempted(
    client: &kube::Client,
    scheduler: &str,
    victim: &PodInfo,
    node: &str,
    by: &PodInfo,
) {
    let note = format!("Preempted by pod {} on node {node}", by.uid);
    record(client, victim, &event(scheduler, victim, "Normal", "Preempted", "Preempting", &note)).await;
}

async fn record(client: &kube::Client, pod: &PodInfo, event: &Event) {
    let api: Api<Event> = Api::namespaced(client.clone(), pod.namespace());
    log_lost(pod, api.create(&PostParams::default(), event).await);
}

/// Events are only words: losing one changes nothing.
fn log_lost(pod: &PodInfo, result: Result<Event, kube::Error>) {
    if let Err(error) = result {
        debug!(pod = pod.name(), namespace = pod.namespace(), %error, "event is lost");
    }
}

fn event_name(pod: &PodInfo, now: Timestamp) -> String {
    format!("{}.{:x}", pod.name(), now.as_nanosecond())
}

fn event(scheduler: &str, pod: &PodInfo, type_: &str, reason: &str, action: &str, note: &str) -> Event {
    let now = Timestamp::now();
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(pod, now)),
            namespace: pod.pod.metadata.namespace.clone(),
            ..Default::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(type_.to_owned()),
        reason: Some(reason.to_owned()),
        action: Some(action.to_owned()),
        note: Some(note.chars().take(LONGEST_NOTE).collect()),
        regarding: Some(pod.pod.object_ref(&())),
        reporting_controller: Some(scheduler.to_owned()),
        reporting_instance: Some(scheduler.to_owned()),
        ..Default::default()
    }
}

/// The API server takes no longer ones.
const LONGEST_NOTE: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_same_failure_is_counted_and_another_is_told() {
        let pod = PodInfo::new(Arc::new(Pod::default()));
        let now = Timestamp::UNIX_EPOCH;
        let first = FailureNote::new(None, &pod, "no room".into(), now);
        let again =
            FailureNote::new(Some(&first), &pod, "no room".into(), now + std::time::Duration::from_secs(1));
        assert_eq!((again.count, &again.event), (2, &first.event));
        let other =
            FailureNote::new(Some(&again), &pod, "tainted".into(), now + std::time::Duration::from_secs(2));
        assert_eq!(other.count, 1);
        assert_ne!(other.event, first.event);
    }
}
