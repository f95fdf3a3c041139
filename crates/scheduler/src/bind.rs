//! Carrying a decision out: the volumes first, then the devices, then the binding itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::core::Assignment;
use crate::evict;
use crate::extender::{ExtenderError, Extenders};
use crate::pod::PodInfo;
use crate::reserve;
use crate::scheduler::Message;
use crate::storage::{Key, SELECTED_NODE};

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("binding rejected: {0}")]
    Pod(kube::Error),
    #[error("binding rejected: {0}")]
    Extender(#[from] ExtenderError),
    #[error("binding volumes: cannot bind volume {volume} to claim {claim}: {source}")]
    Volume { volume: String, claim: String, source: kube::Error },
    #[error("binding volumes: cannot tell claim {claim} its node: {source}")]
    Claim { claim: String, source: kube::Error },
    #[error("binding resource claims: cannot reserve resourceclaim {claim}: {source}")]
    Devices { claim: String, source: kube::Error },
    #[error("binding resource claims: cannot make a resourceclaim for extended resources: {0}")]
    Extended(kube::Error),
    #[error("binding resource claims: resourceclaim {0} has been allocated otherwise meanwhile")]
    Allocated(String),
    #[error("binding resource claims: {0}")]
    NotReady(String),
    #[error("binding resource claims: timed out after {0:?} waiting for the devices to be ready")]
    DevicesTimeout(Duration),
    #[error("binding volumes: {0}")]
    Claims(String),
    #[error("binding volumes: timed out after {0:?} waiting for the claims to be bound")]
    Timeout(Duration),
    #[error("the scheduler is ending")]
    Ending,
}

impl BindError {
    /// The pod is gone, or somebody else was faster: no news to anybody.
    pub fn is_superseded(&self) -> bool {
        match self {
            Self::Pod(kube::Error::Api(status)) => matches!(status.code, 404 | 409),
            Self::Ending => true,
            _ => false,
        }
    }
}

/// How long is waited for what others have to make before the pod is bound.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub volumes: Duration,
    pub devices: Duration,
}

impl Default for Timeouts {
    /// As upstream.
    fn default() -> Self {
        Self { volumes: Duration::from_secs(600), devices: Duration::from_secs(600) }
    }
}

pub async fn carry_out(
    client: &kube::Client,
    extenders: &Extenders,
    messages: &mpsc::UnboundedSender<Message>,
    assignment: &Assignment,
    timeouts: Timeouts,
    passed: impl Fn(&'static str, bool, Duration),
) -> Result<(), BindError> {
    let begun = Instant::now();
    let pod = &assignment.waiting.pod;
    let takes_time = !assignment.plan.is_empty() || !assignment.devices.is_empty();
    if takes_time && pod.nominated_node() != Some(&assignment.node) {
        // Who watches the pod sees where it is going, and a scheduler that comes after this one tries there first.
        evict::nominate(client, pod, Some(&assignment.node)).await;
    }
    let prepared = prepare(client, messages, assignment, timeouts).await;
    passed("PreBind", prepared.is_ok(), begun.elapsed());
    prepared?;
    let begun = Instant::now();
    let bound = match extenders.binder(&pod.pod) {
        Some(binder) => binder.bind(pod, &assignment.node).await.map_err(BindError::Extender),
        None => bind(client, pod, &assignment.node).await.map_err(BindError::Pod),
    };
    passed("Bind", bound.is_ok(), begun.elapsed());
    bound
}

/// What the pod needs is there before it is bound.
async fn prepare(
    client: &kube::Client,
    messages: &mpsc::UnboundedSender<Message>,
    assignment: &Assignment,
    timeouts: Timeouts,
) -> Result<(), BindError> {
    if !assignment.plan.is_empty() {
        bind_volumes(client, messages, assignment, timeouts.volumes).await?;
    }
    if !assignment.devices.is_empty() {
        reserve::all(client, messages, assignment, timeouts.devices).await?;
    }
    Ok(())
}

/// Tells the API server which node a pod goes to.
async fn bind(client: &kube::Client, pod: &PodInfo, node: &str) -> Result<(), kube::Error> {
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

/// Binds the claims to the volumes chosen, has the others made near the node, and waits until all are bound.
async fn bind_volumes(
    client: &kube::Client,
    messages: &mpsc::UnboundedSender<Message>,
    assignment: &Assignment,
    timeout: Duration,
) -> Result<(), BindError> {
    for (volume, claim) in &assignment.plan.bindings {
        bind_volume(client, volume, claim).await.map_err(|source| BindError::Volume {
            volume: volume.clone(),
            claim: claim.1.clone(),
            source,
        })?;
    }
    let patch = json!({"metadata": {"annotations": {SELECTED_NODE: assignment.node}}});
    for (namespace, name) in &assignment.plan.provisions {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        let told = api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        told.map_err(|source| BindError::Claim { claim: name.clone(), source })?;
    }
    let (sender, bound) = oneshot::channel();
    let wanted = Message::AwaitClaims(assignment.plan.claims(), sender);
    messages.send(wanted).map_err(|_| BindError::Ending)?;
    match tokio::time::timeout(timeout, bound).await {
        Err(_) => Err(BindError::Timeout(timeout)),
        Ok(Err(_)) => Err(BindError::Ending),
        Ok(Ok(bound)) => bound.map_err(BindError::Claims),
    }
}

/// The volume says whose it is; the controller of volumes does the rest.
async fn bind_volume(
    client: &kube::Client,
    volume: &str,
    (namespace, name): &Key,
) -> Result<(), kube::Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = claims.get(name).await?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let current = volumes.get(volume).await?;
    let taken = current.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let ours = taken.is_some_and(|reference| {
        reference.name.as_ref() == Some(name)
            && reference.uid.is_some()
            && reference.uid == claim.metadata.uid
    });
    if ours {
        return Ok(());
    }
    let patch = json!({
        // Refused if anybody has changed the volume meanwhile.
        "metadata": {
            "resourceVersion": current.metadata.resource_version,
            "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
        },
        "spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name,
            "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
        }},
    });
    volumes.patch(volume, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}
