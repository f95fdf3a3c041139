//! Sending less important pods away.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tracing::{debug, warn};

use crate::decide::preemption::Victims;
use crate::outcome;
use crate::pod::PodInfo;

/// Deletes the victims, and keeps their room for the pod. `displaced` lose the room that was kept for them.
pub async fn carry_out(
    client: &kube::Client,
    scheduler: &str,
    pod: &PodInfo,
    victims: Victims,
    displaced: Vec<Arc<PodInfo>>,
) {
    for victim in &victims.pods {
        // One that is going already is only waited for.
        if victim.is_terminating() {
            continue;
        }
        if let Err(error) = send_away(client, scheduler, victim).await {
            warn!(pod = victim.name(), namespace = victim.namespace(), %error, "cannot preempt");
            continue;
        }
        outcome::record_preempted(client, scheduler, victim, &victims.node, pod).await;
    }
    nominate(client, pod, Some(&victims.node)).await;
    for other in displaced {
        nominate(client, &other, None).await;
    }
}

/// Says in the pod's status where room is kept for it.
pub async fn nominate(client: &kube::Client, pod: &PodInfo, node: Option<&str>) {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    let patch = json!({"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": node}});
    if let Err(error) = api.patch_status(pod.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        debug!(pod = pod.name(), namespace = pod.namespace(), %error, "nominated node is not told");
    }
}

async fn send_away(client: &kube::Client, scheduler: &str, victim: &PodInfo) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), victim.namespace());
    let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": Time(Timestamp::now()), "observedGeneration": victim.pod.metadata.generation,
    }]}});
    api.patch_status(victim.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    let exactly = Preconditions { uid: Some(victim.uid.to_string()), ..Default::default() };
    api.delete(victim.name(), &DeleteParams::default().preconditions(exactly)).await.map(drop)
}
