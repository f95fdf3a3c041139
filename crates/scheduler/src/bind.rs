//! Carrying a decision out: the volumes first, then the binding itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::core::Assignment;
use crate::extender::{ExtenderError, Extenders};
use crate::pod::PodInfo;
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
    #[error("binding resource claims: resourceclaim {0} has been allocated otherwise meanwhile")]
    Allocated(String),
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

pub async fn carry_out(
    client: &kube::Client,
    extenders: &Extenders,
    messages: &mpsc::UnboundedSender<Message>,
    assignment: &Assignment,
    timeout: Duration,
) -> Result<(), BindError> {
    if !assignment.plan.is_empty() {
        bind_volumes(client, messages, assignment, timeout).await?;
    }
    for claim in &assignment.devices.claims {
        reserve(client, claim, assignment).await?;
    }
    let pod = &assignment.waiting.pod;
    if let Some(binder) = extenders.binder(&pod.pod) {
        return Ok(binder.bind(pod, &assignment.node).await?);
    }
    bind(client, pod, &assignment.node).await.map_err(BindError::Pod)
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

/// The claim does not go while its devices are taken.
const PROTECTION: &str = "resource.kubernetes.io/delete-protection";
/// Others write to claims too: so often a write is tried again on what they made of it.
const ATTEMPTS: usize = 5;

/// Writes down which devices a claim has been given, and that the pod uses it.
async fn reserve(client: &kube::Client, key: &Key, assignment: &Assignment) -> Result<(), BindError> {
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), &key.0);
    for left in (0..ATTEMPTS).rev() {
        match try_reserve(&api, key, assignment).await? {
            Ok(()) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {}
            Err(source) => return Err(BindError::Devices { claim: key.1.clone(), source }),
        }
    }
    Ok(())
}

async fn try_reserve(
    api: &Api<ResourceClaim>,
    (_, name): &Key,
    assignment: &Assignment,
) -> Result<Result<(), kube::Error>, BindError> {
    let pod = &assignment.waiting.pod;
    let mut claim = match api.get(name).await {
        Ok(claim) => claim,
        Err(error) => return Ok(Err(error)),
    };
    let given = assignment.devices.allocations.iter().find(|((_, claim), _)| claim == name);
    let allocated = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
    if allocated == given.is_some() {
        return Err(BindError::Allocated(name.clone()));
    }
    let protected = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    if given.is_some() && !protected {
        claim.metadata.finalizers.get_or_insert_default().push(PROTECTION.to_owned());
        claim = match api.replace(name, &PostParams::default(), &claim).await {
            Ok(claim) => claim,
            Err(error) => return Ok(Err(error)),
        };
    }
    let status = claim.status.get_or_insert_default();
    if let Some((_, allocation)) = given {
        status.allocation = Some(allocation.clone());
    }
    let users = status.reserved_for.get_or_insert_default();
    if given.is_none() && users.iter().any(|user| *user.uid == *pod.uid) {
        return Ok(Ok(()));
    }
    users.push(ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".to_owned(),
        name: pod.name().to_owned(),
        uid: pod.uid.to_string(),
    });
    Ok(api.replace_status(name, &PostParams::default(), &claim).await.map(drop))
}
