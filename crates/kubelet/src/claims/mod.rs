//! Devices that pods claim: dynamic resource allocation on the node.
//!
//! The scheduler has allocated devices to a pod's claims. Before the pod's containers start, the drivers of those devices
//! make them ready ([`Claims::prepare`]); they answer with CDI names, which the runtime is given for the containers that
//! ask for them. When the last pod of a claim has ended, the drivers take the devices back. What is prepared is on disk.

mod driver;
mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Container, Pod, PodExtendedResourceClaimStatus};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::Api;
use parking_lot::Mutex;
use tracing::info;

use crate::context::Context;
use crate::meters;
use crate::pod::ext::PodExt;
use driver::Driver;
use saved::{Device, Prepared, State};

/// The drivers of this node, and the claims that they have prepared.
pub struct Claims {
    drivers: Mutex<BTreeMap<String, Driver>>,
    state: Mutex<State>,
    /// One thing at a time: a claim may be shared by pods that come and go.
    busy: tokio::sync::Mutex<()>,
}

/// A driver has come. Answers with what [`deregister`] takes.
pub fn register(ctx: &Arc<Context>, name: &str, endpoint: &Path, versions: &[String]) -> Result<u64, String> {
    let driver = Driver::new(endpoint, versions)?;
    let registration = driver.registration;
    ctx.claims.drivers.lock().insert(name.to_owned(), driver);
    info!(driver = name, "a driver of claimed devices has registered");
    Ok(registration)
}

/// A driver has gone, unless another one has taken its name since.
pub fn deregister(ctx: &Arc<Context>, name: &str, registration: u64) {
    let mut drivers = ctx.claims.drivers.lock();
    if drivers.get(name).is_some_and(|known| known.registration == registration) {
        drivers.remove(name);
    }
}

/// The claim by which the pod gets devices for its extended resources.
fn extended(pod: &Pod) -> Option<&PodExtendedResourceClaimStatus> {
    pod.status.as_ref()?.extended_resource_claim_status.as_ref()
}

/// Whether the pod has devices of claims for that extended resource, rather than of a device plugin.
pub fn is_claimed(pod: &Pod, resource: &str) -> bool {
    let mappings = extended(pod).map(|status| &status.request_mappings);
    mappings.into_iter().flatten().any(|mapping| mapping.resource_name == resource)
}

/// The claims of a pod: by which name the pod knows them, and the names of the objects.
fn names(pod: &Pod) -> Result<Vec<(String, String)>, String> {
    let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_ref());
    let mut names = Vec::new();
    for claim in pod.pod_spec().resource_claims.iter().flatten() {
        if let Some(name) = &claim.resource_claim_name {
            names.push((claim.name.clone(), name.clone()));
            continue;
        }
        let known = statuses.into_iter().flatten().find(|status| status.name == claim.name);
        match known.map(|status| status.resource_claim_name.as_ref()) {
            Some(Some(name)) => names.push((claim.name.clone(), name.clone())),
            // Of some templates, no claim needs to be made.
            Some(None) => {}
            None => {
                return Err(format!(
                    "no ResourceClaim was made for the claim {:?} of the pod yet",
                    claim.name
                ));
            }
        }
    }
    Ok(names)
}

/// What a container asks for: claims, each in part (one of its requests) or as a whole.
fn wanted<'a>(pod: &'a Pod, container: &'a Container) -> Result<Vec<(String, Option<&'a str>)>, String> {
    let mut wanted = Vec::new();
    let claims = container.resources.as_ref().and_then(|resources| resources.claims.as_ref());
    let names = if claims.is_some() { names(pod)? } else { Vec::new() };
    for claim in claims.into_iter().flatten() {
        let name = names.iter().find(|(known, _)| *known == claim.name).map(|(_, name)| name.clone());
        wanted.extend(name.map(|name| (name, claim.request.as_deref())));
    }
    if let Some(status) = extended(pod) {
        let own = status.request_mappings.iter().filter(|mapping| mapping.container_name == container.name);
        wanted.extend(
            own.map(|mapping| (status.resource_claim_name.clone(), Some(mapping.request_name.as_str()))),
        );
    }
    Ok(wanted)
}

fn check(claim: &ResourceClaim, name: &str, pod: &Pod) -> Result<(), String> {
    let status = claim.status.as_ref();
    if status.is_none_or(|status| status.allocation.is_none()) {
        return Err(format!("resource claim {name} is not allocated"));
    }
    let mut reserved = status.and_then(|status| status.reserved_for.as_ref()).into_iter().flatten();
    if reserved.any(|consumer| consumer.uid == pod.uid()) {
        return Ok(());
    }
    Err(format!("pod {} is not allowed to use resource claim {name}", pod.full_name()))
}

/// The drivers whose devices the claim was given.
fn drivers_of(claim: &ResourceClaim) -> BTreeSet<String> {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    let results = devices.and_then(|devices| devices.results.as_ref());
    results.into_iter().flatten().map(|result| result.driver.clone()).collect()
}

impl Claims {
    pub fn new(root: &Path) -> Self {
        Self {
            drivers: Mutex::default(),
            state: Mutex::new(State::read(root)),
            busy: tokio::sync::Mutex::default(),
        }
    }

    fn driver(&self, name: &str) -> Result<Driver, String> {
        let known = self.drivers.lock().get(name).cloned();
        known.ok_or_else(|| format!("DRA driver {name} is not registered"))
    }

    /// Has the drivers prepare what the pod claims. Idempotent.
    pub async fn prepare(&self, ctx: &Context, pod: &Pod) -> Result<(), String> {
        if pod.pod_spec().resource_claims.as_ref().is_none_or(Vec::is_empty) && extended(pod).is_none() {
            return Ok(());
        }
        let began = Instant::now();
        let result = self.prepare_all(ctx, pod).await;
        timed("PrepareResources", began, &result);
        result
    }

    async fn prepare_all(&self, ctx: &Context, pod: &Pod) -> Result<(), String> {
        let _one_at_a_time = self.busy.lock().await;
        let api: Api<ResourceClaim> = Api::namespaced(ctx.client.clone(), pod.namespace());
        let named = names(pod)?.into_iter().map(|(_, name)| name);
        for name in named.chain(extended(pod).map(|status| status.resource_claim_name.clone())) {
            if self.state.lock().add_pod(pod.namespace(), &name, pod.uid())? {
                continue;
            }
            let claim = api
                .get(&name)
                .await
                .map_err(|error| format!("cannot read resource claim {name}: {error}"))?;
            check(&claim, &name, pod)?;
            let uid = claim.metadata.uid.clone().unwrap_or_default();
            let mut prepared = Prepared {
                namespace: pod.namespace().to_owned(),
                name: name.clone(),
                uid: uid.clone(),
                pods: [pod.uid().to_owned()].into(),
                drivers: BTreeMap::new(),
                ready: false,
            };
            // Written down before: what may have been prepared has to be taken back.
            prepared.drivers.extend(drivers_of(&claim).into_iter().map(|driver| (driver, Vec::new())));
            self.state.lock().put(prepared.clone())?;
            for (driver, devices) in &mut prepared.drivers {
                let answer = self.driver(driver)?.prepare(pod.namespace(), &name, &uid).await;
                *devices = answer
                    .map_err(|error| format!("NodePrepareResources failed for claim {name}: {error}"))?;
            }
            prepared.ready = true;
            self.state.lock().put(prepared)?;
        }
        Ok(())
    }

    /// The CDI names of what a container asks for of its pod's claims.
    pub fn cdi_devices(&self, pod: &Pod, container: &Container) -> Result<Vec<String>, String> {
        let devices = self.devices(pod, container)?.into_iter();
        let ids: BTreeSet<String> = devices.flat_map(|(.., device)| device.cdi_ids).collect();
        Ok(ids.into_iter().collect())
    }

    /// What a container asks for of its pod's claims: claim, driver, device.
    pub fn devices(&self, pod: &Pod, container: &Container) -> Result<Vec<(String, String, Device)>, String> {
        let wanted = wanted(pod, container)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.state.lock();
        let mut found = Vec::new();
        for (name, request) in wanted {
            let prepared = state
                .get(pod.namespace(), &name)
                .filter(|prepared| prepared.ready)
                .ok_or_else(|| format!("resource claim {name} is not prepared"))?;
            for (driver, devices) in &prepared.drivers {
                let asked = devices.iter().filter(|device| device.serves(request));
                found.extend(asked.map(|device| (name.clone(), driver.clone(), device.clone())));
            }
        }
        Ok(found)
    }

    /// The pods for which something is prepared.
    pub fn pods(&self) -> BTreeSet<String> {
        self.state.lock().pods()
    }

    /// The pod has ended: what no other pod uses is taken back.
    pub async fn release(&self, uid: &str) -> Result<(), String> {
        if self.state.lock().of_pod(uid).is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let result = self.release_all(uid).await;
        timed("UnprepareResources", began, &result);
        result
    }

    async fn release_all(&self, uid: &str) -> Result<(), String> {
        let _one_at_a_time = self.busy.lock().await;
        let of_pod = self.state.lock().of_pod(uid);
        for prepared in of_pod {
            if prepared.pods.len() == 1 {
                for driver in prepared.drivers.keys() {
                    let (namespace, name) = (&prepared.namespace, &prepared.name);
                    self.driver(driver)?.unprepare(namespace, name, &prepared.uid).await?;
                }
            }
            self.state.lock().remove_pod(&prepared.uid, uid)?;
        }
        Ok(())
    }
}

fn timed(operation: &str, began: Instant, result: &Result<(), String>) {
    let error = if result.is_err() { "true" } else { "false" };
    let labels = [("is_error", error), ("operation_name", operation)];
    meters::observe("dra_operations_duration_seconds", &labels, began.elapsed());
}

impl Device {
    /// Without a request, everything of the claim is meant.
    fn serves(&self, request: Option<&str>) -> bool {
        let Some(request) = request else { return true };
        // `request/one-of-its-alternatives`
        let is = |name: &String| name == request || name.split('/').next() == Some(request);
        self.requests.is_empty() || self.requests.iter().any(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_have_names() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [], "resourceClaims": [
                {"name": "a", "resourceClaimName": "x"}, {"name": "b", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "p-b-123"}]},
        }))
        .unwrap();
        let expected = [("a".to_owned(), "x".to_owned()), ("b".to_owned(), "p-b-123".to_owned())];
        assert_eq!(names(&pod).unwrap(), expected);
        let mut early = pod.clone();
        early.status = None;
        assert!(names(&early).is_err());
    }

    #[test]
    fn containers_have_what_stands_for_their_extended_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"resourceClaims": [{"name": "a", "resourceClaimName": "x"}], "containers": [
                {"name": "one", "resources": {"claims": [{"name": "a", "request": "r"}], "requests": {"example.com/gpu": "1"}}},
                {"name": "two"}]},
            "status": {"extendedResourceClaimStatus": {"resourceClaimName": "e", "requestMappings": [
                {"containerName": "one", "resourceName": "example.com/gpu", "requestName": "container-0-request-0"}]}},
        }))
        .unwrap();
        let [one, two] = &pod.spec.as_ref().unwrap().containers[..] else { panic!("there are two") };
        let expected = [("x".to_owned(), Some("r")), ("e".to_owned(), Some("container-0-request-0"))];
        assert_eq!(wanted(&pod, one).unwrap(), expected);
        assert_eq!(wanted(&pod, two).unwrap(), []);
        assert!(is_claimed(&pod, "example.com/gpu") && !is_claimed(&pod, "example.com/nic"));
    }

    #[test]
    fn requests() {
        let check = |requests: &[&str], request: Option<&str>, expected: bool| {
            let device =
                Device { requests: requests.iter().map(|r| (*r).to_owned()).collect(), ..Default::default() };
            assert_eq!(device.serves(request), expected, "{requests:?} {request:?}");
        };
        check(&["gpu"], None, true);
        check(&["gpu"], Some("gpu"), true);
        check(&["gpu/large"], Some("gpu"), true);
        check(&["nic"], Some("gpu"), false);
        check(&[], Some("gpu"), true);
    }
}
