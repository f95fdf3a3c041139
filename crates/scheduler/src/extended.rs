//! Makes the claim by which a pod gets devices for its extended resources, tells the pod of it, and takes back one that was
//! made for a node that the pod did not get to.

use k8s_openapi::api::core::v1::{Pod, PodExtendedResourceClaimStatus};
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::bind::BindError;
use crate::devices::Extended;
use crate::pod::PodInfo;
use crate::reserve::{ATTEMPTS, PROTECTION, user};
use crate::storage::Key;

/// Makes the claim with its devices, and tells the pod which of its containers gets which. What was made for a pod that is
/// not bound after all is found when the pod is tried again.
pub async fn make(
    client: &kube::Client,
    pod: &PodInfo,
    wanted: &Extended,
    allocation: &AllocationResult,
) -> Result<ResourceClaim, BindError> {
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), pod.namespace());
    let mut claim = wanted.claim.clone();
    claim.metadata.finalizers = Some(vec![PROTECTION.to_owned()]);
    let mut claim = api.create(&PostParams::default(), &claim).await.map_err(BindError::Extended)?;
    let name = claim.metadata.name.clone().unwrap_or_default();
    let mut allocation = allocation.clone();
    allocation.allocation_timestamp = Some(Time(Timestamp::now()));
    let status = claim.status.get_or_insert_default();
    status.allocation = Some(allocation);
    status.reserved_for = Some(vec![user(pod)]);
    let failed = |source| BindError::Devices { claim: name.clone(), source };
    let claim = api.replace_status(&name, &PostParams::default(), &claim).await.map_err(failed)?;
    let told = PodExtendedResourceClaimStatus {
        request_mappings: wanted.mappings.clone(),
        resource_claim_name: name.clone(),
    };
    tell(client, pod, json!(told)).await.map_err(failed)?;
    Ok(claim)
}

async fn tell(client: &kube::Client, pod: &PodInfo, status: Value) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    let patch = json!({"metadata": {"uid": pod.uid}, "status": {"extendedResourceClaimStatus": status}});
    pods.patch_status(pod.name(), &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}

/// The pod is to be decided over anew: its claim goes, and what it held is free.
pub async fn take_back(client: &kube::Client, pod: &PodInfo, claim: &Key) {
    let told = tell(client, pod, Value::Null).await;
    let result = match told {
        Ok(()) => remove(client, pod, claim).await,
        error => error,
    };
    match result {
        Ok(()) => debug!(claim = claim.1, namespace = claim.0, "claim of an earlier attempt is removed"),
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(error) => {
            warn!(claim = claim.1, namespace = claim.0, %error, "claim of an earlier attempt is in the way");
        }
    }
}

async fn remove(client: &kube::Client, pod: &PodInfo, (namespace, name): &Key) -> Result<(), kube::Error> {
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), namespace);
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match try_remove(&api, pod, name).await {
            Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {}
            result => return result,
        }
    }
}

async fn try_remove(api: &Api<ResourceClaim>, pod: &PodInfo, name: &str) -> Result<(), kube::Error> {
    let mut claim = api.get(name).await?;
    let status = claim.status.get_or_insert_default();
    let users = status.reserved_for.iter().flatten();
    if users.into_iter().any(|other| *other.uid != *pod.uid) {
        debug!(claim = name, "claim of an earlier attempt has other users");
        return Ok(());
    }
    if status.allocation.is_some() {
        (status.allocation, status.reserved_for, status.devices) = (None, None, None);
        claim = api.replace_status(name, &PostParams::default(), &claim).await?;
    }
    let finalizers = claim.metadata.finalizers.get_or_insert_default();
    if finalizers.iter().any(|finalizer| finalizer == PROTECTION) {
        finalizers.retain(|finalizer| finalizer != PROTECTION);
        claim = api.replace(name, &PostParams::default(), &claim).await?;
    }
    let preconditions = Preconditions { uid: claim.metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    api.delete(name, &parameters).await.map(drop)
}
