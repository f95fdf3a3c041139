//! Giving a pod the devices that were found for it: its claims say which, and that it uses them; then their drivers may
//! have to make them ready for the node.

use std::time::Duration;

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::bind::BindError;
use crate::core::Assignment;
use crate::devices::has_conditions;
use crate::extended;
use crate::pod::PodInfo;
use crate::scheduler::Message;
use crate::storage::Key;

/// The claim does not go while its devices are taken.
pub const PROTECTION: &str = "resource.kubernetes.io/delete-protection";
/// Others write to claims too: so often a write is tried again on what they made of it.
pub const ATTEMPTS: usize = 5;

/// Returns when every device is ready. Those that will not be, or not in time, are given back.
pub async fn all(
    client: &kube::Client,
    messages: &mpsc::UnboundedSender<Message>,
    assignment: &Assignment,
    timeout: Duration,
) -> Result<(), BindError> {
    let mut awaited = Vec::new();
    if let Some((wanted, allocation)) = assignment.devices.extended.as_deref() {
        let claim = extended::make(client, &assignment.waiting.pod, wanted, allocation).await?;
        if has_conditions(&claim) {
            awaited.push(key_of(&claim));
        }
    }
    for key in &assignment.devices.claims {
        if has_conditions(&reserve(client, key, assignment).await?) {
            awaited.push(key.clone());
        }
    }
    if awaited.is_empty() {
        return Ok(());
    }
    let result = wait(messages, awaited.clone(), timeout).await;
    if matches!(result, Err(BindError::NotReady(_) | BindError::DevicesTimeout(_))) {
        for key in awaited.iter().filter(|key| assignment.devices.claims.contains(key)) {
            if let Err(error) = give_back(client, key, assignment).await {
                warn!(claim = key.1, namespace = key.0, %error, "devices that are not ready are still taken");
            }
        }
    }
    result
}

async fn wait(
    messages: &mpsc::UnboundedSender<Message>,
    claims: Vec<Key>,
    timeout: Duration,
) -> Result<(), BindError> {
    let (sender, ready) = oneshot::channel();
    messages.send(Message::AwaitDevices(claims, sender)).map_err(|_| BindError::Ending)?;
    match tokio::time::timeout(timeout, ready).await {
        Err(_) => Err(BindError::DevicesTimeout(timeout)),
        Ok(Err(_)) => Err(BindError::Ending),
        Ok(Ok(ready)) => ready.map_err(BindError::NotReady),
    }
}

fn key_of(claim: &ResourceClaim) -> Key {
    let meta = &claim.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Writes down which devices a claim has been given, and that the pod uses it.
async fn reserve(
    client: &kube::Client,
    key: &Key,
    assignment: &Assignment,
) -> Result<ResourceClaim, BindError> {
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), &key.0);
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match try_reserve(&api, key, assignment).await? {
            Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {}
            result => return result.map_err(|source| failed(key, source)),
        }
    }
}

fn failed(key: &Key, source: kube::Error) -> BindError {
    BindError::Devices { claim: key.1.clone(), source }
}

async fn try_reserve(
    api: &Api<ResourceClaim>,
    key: &Key,
    assignment: &Assignment,
) -> Result<Result<ResourceClaim, kube::Error>, BindError> {
    let (pod, name) = (&assignment.waiting.pod, &key.1);
    let mut claim = match api.get(name).await {
        Ok(claim) => claim,
        Err(error) => return Ok(Err(error)),
    };
    let given = assignment.devices.allocations.get(key);
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
    if let Some(allocation) = given {
        let mut allocation = allocation.clone();
        allocation.allocation_timestamp = Some(Time(Timestamp::now()));
        status.allocation = Some(allocation);
    }
    let users = status.reserved_for.get_or_insert_default();
    if given.is_none() && users.iter().any(|user| *user.uid == *pod.uid) {
        return Ok(Ok(claim));
    }
    users.push(user(pod));
    Ok(api.replace_status(name, &PostParams::default(), &claim).await)
}

/// The pod, as a user of claims.
pub fn user(pod: &PodInfo) -> ResourceClaimConsumerReference {
    ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".to_owned(),
        name: pod.name().to_owned(),
        uid: pod.uid.to_string(),
    }
}

/// The pod does not use the claim; if nobody does, its devices are free again.
async fn give_back(client: &kube::Client, key: &Key, assignment: &Assignment) -> Result<(), kube::Error> {
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), &key.0);
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        let mut claim = api.get(&key.1).await?;
        let Some(status) = &mut claim.status else { return Ok(()) };
        let users = status.reserved_for.get_or_insert_default();
        users.retain(|user| *user.uid != *assignment.waiting.pod.uid);
        if users.is_empty() {
            (status.allocation, status.devices, status.reserved_for) = (None, None, None);
        }
        match api.replace_status(&key.1, &PostParams::default(), &claim).await {
            Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {}
            result => return result.map(drop),
        }
    }
}
