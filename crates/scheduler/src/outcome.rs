//! What the world is told of decisions: the binding, the pod's condition, events.

use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolumeClaim, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::{Value, json};
use tracing::debug;

use crate::pod::PodInfo;

/// By this provisioners and the binder of volumes know where a claim is needed.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Tells the API server which node a pod goes to.
pub async fn bind(client: &kube::Client, pod: &PodInfo, node: &str) -> Result<(), kube::Error> {
    let binding = Binding {
        metadata: ObjectMeta {
            name: pod.pod.metadata.name.clone(),
            namespace: pod.pod.metadata.namespace.clone(),
            // The binding fails if the name belongs to another pod by now.
            uid: pod.pod.metadata.uid.clone(),
            ..Default::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..Default::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    let _: Value = api.create_subresource("binding", pod.name(), &PostParams::default(), &binding).await?;
    Ok(())
}

/// Tells claims that have waited for it to which node their pod goes. The kubelet waits until they are bound.
pub async fn bind_claims(
    client: &kube::Client,
    pod: &PodInfo,
    node: &str,
    claims: &[String],
) -> Result<(), kube::Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), pod.namespace());
    let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
    for claim in claims {
        api.patch_metadata(claim, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(())
}

/// Says in the pod's status why it waits, if it does not say so already.
pub async fn explain(client: &kube::Client, pod: &PodInfo, reason: &str, message: &str) {
    let conditions = pod.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let told = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    let same = told.is_some_and(|told| {
        told.status == "False"
            && told.reason.as_deref() == Some(reason)
            && told.message.as_deref() == Some(message)
    });
    if same {
        return;
    }
    let since = told.filter(|told| told.status == "False").and_then(|told| told.last_transition_time.clone());
    let now = Timestamp::now();
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": since.unwrap_or(now),
        "observedGeneration": pod.pod.metadata.generation,
    }]}});
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    if let Err(error) = api.patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await
    {
        debug!(pod = pod.name(), namespace = pod.namespace(), %error, "condition of a waiting pod is not told");
    }
}

/// What kind of event it is.
pub enum Told<'a> {
    Scheduled { node: &'a str },
    Failed { message: &'a str },
    Preempted { node: &'a str, by: &'a PodInfo },
}

pub async fn record(client: &kube::Client, scheduler: &str, pod: &PodInfo, told: Told<'_>) {
    let (type_, reason, action, note) = match told {
        Told::Scheduled { node } => {
            let note = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
            ("Normal", "Scheduled", "Binding", note)
        }
        Told::Failed { message } => ("Warning", "FailedScheduling", "Scheduling", message.to_owned()),
        Told::Preempted { node, by } => {
            let note = format!("Preempted by pod {} on node {node}", by.uid);
            ("Normal", "Preempted", "Preempting", note)
        }
    };
    let now = Timestamp::now();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", pod.name(), now.as_nanosecond())),
            namespace: pod.pod.metadata.namespace.clone(),
            ..Default::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(type_.to_owned()),
        reason: Some(reason.to_owned()),
        action: Some(action.to_owned()),
        note: Some(note.chars().take(1024).collect()),
        regarding: Some(pod.pod.object_ref(&())),
        reporting_controller: Some(scheduler.to_owned()),
        reporting_instance: Some(scheduler.to_owned()),
        ..Default::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), pod.namespace());
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        debug!(pod = pod.name(), namespace = pod.namespace(), %error, "event is lost");
    }
}
