//! Dynamic resource allocation: makes the ResourceClaims that pods ask for by template, and frees what pods that are
//! gone held.

mod claims;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::api::DeleteParams;
use serde_json::json;

use crate::Loops;
use crate::kit::{Context, Controller, Key, Queue, SyncError, World, meta, pods};
use claims::{FINALIZER, Step};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let (of_pods, of_claims) = (Queue::default(), Queue::default());
    let (due, other) = (of_pods.clone(), of_claims.clone());
    world.pods.on(move |change| {
        let Some(pod) = change.object() else { return };
        if !change.new.is_some_and(|pod| pods::is_active(pod))
            && let Some(name) = claims::extended(pod)
        {
            other.add(Key::new(meta::namespace(&**pod), name));
        }
        if claims::wanted(pod).next().is_none() {
            return;
        }
        if change.new.is_some_and(|pod| pods::is_active(pod)) {
            due.add(Key::of(&**pod));
        } else {
            for (_, name) in claims::names(pod) {
                other.add(Key::new(meta::namespace(&**pod), name));
            }
        }
    });
    let (due, seen) = (of_pods.clone(), world.clone());
    world.resource_claim_templates.on(move |change| {
        let Some(template) = change.new.filter(|_| change.old.is_none()) else { return };
        for pod in seen.pods.by_namespace(meta::namespace(&**template)) {
            if claims::wanted(&pod)
                .any(|claim| claim.resource_claim_template_name.as_deref() == Some(meta::name(&**template)))
            {
                due.add(Key::of(&*pod));
            }
        }
    });
    let (due, other) = (of_claims.clone(), of_pods.clone());
    world.resource_claims.on(move |change| {
        let Some(claim) = change.object() else { return };
        due.add(Key::of(&**claim));
        if change.new.is_none()
            && let Some(pod) = meta::owner_key::<Pod>(&claim.metadata)
        {
            other.add(pod);
        }
    });
    loops.add(PodClaims { world: world.clone() }, of_pods);
    loops.add(Reservations { world: world.clone() }, of_claims);
}

/// Makes the claims of a pod.
struct PodClaims {
    world: Arc<World>,
}

impl Controller for PodClaims {
    const NAME: &'static str = "resourceclaim-controller";
    const QUEUE: &'static str = "resource_claim";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(pod) = self.world.pods.by_key(key).filter(|pod| pods::is_active(pod)) else {
            return Ok(None);
        };
        let mut made = Vec::new();
        for wanted in claims::wanted(&pod) {
            let Some(template) = &wanted.resource_claim_template_name else { continue };
            if claims::told(&pod, &wanted.name).is_some() {
                continue;
            }
            let owned = self.world.resource_claims.by_controller(meta::uid(&*pod));
            let claim = match owned.into_iter().find(|claim| claims::is_for(claim, &wanted.name)) {
                Some(claim) => claim,
                None => self.create(&pod, &wanted.name, template).await?,
            };
            made.push(json!({"name": wanted.name, "resourceClaimName": meta::name(&*claim)}));
        }
        if !made.is_empty() {
            let patch =
                json!({"metadata": {"uid": meta::uid(&*pod)}, "status": {"resourceClaimStatuses": made}});
            match self.world.pods.strategic_patch_status(key, &patch).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        self.reserve(&pod).await?;
        Ok(None)
    }
}

impl PodClaims {
    async fn create(
        &self,
        pod: &Arc<Pod>,
        name: &str,
        template: &str,
    ) -> Result<Arc<ResourceClaim>, SyncError> {
        let namespace = meta::namespace(&**pod);
        let Some(template) = self.world.resource_claim_templates.get(namespace, template) else {
            let message = format!("PodResourceClaim {name}: resource claim template {template:?} not found");
            self.world.events.warning("resource_claim", &**pod, "FailedResourceClaimCreation", message);
            return Err(SyncError::Waiting(format!("ResourceClaimTemplate {namespace}/{template}")));
        };
        let created = self.world.resource_claims.create(&claims::from_template(pod, name, &template)).await;
        if let Err(error) = &created
            && !error.is_namespace_terminating()
        {
            let message =
                format!("PodResourceClaim {name}: failed to create ResourceClaim: {}", error.api_message());
            self.world.events.warning("resource_claim", &**pod, "FailedResourceClaimCreation", message);
        }
        created
    }

    /// A pod that was given its node by somebody else than the scheduler: its claims are reserved here.
    async fn reserve(&self, pod: &Arc<Pod>) -> Result<(), SyncError> {
        if pods::node_name(pod).is_none() {
            return Ok(());
        }
        for (_, name) in claims::names(pod) {
            let Some(claim) = self.world.resource_claims.get(meta::namespace(&**pod), &name) else {
                continue;
            };
            if let Some(reserved) = claims::reserved_for(&claim, pod) {
                self.world.resource_claims.replace_status(&reserved).await?;
            }
        }
        Ok(())
    }
}

/// Frees what nobody uses any more.
struct Reservations {
    world: Arc<World>,
}

impl Controller for Reservations {
    const NAME: &'static str = "resourceclaim-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let view = &self.world.resource_claims;
        let Some(mut claim) = view.by_key(key) else { return Ok(None) };
        let mut gone = Vec::new();
        for uid in claims::pod_consumers(&claim) {
            if !self.uses(key, &uid.0, &uid.1).await? {
                gone.push(uid.1);
            }
        }
        let owner_is_done = self.owner_is_done(&claim);
        for step in claims::steps(&claim, &gone, owner_is_done) {
            match step {
                Step::Tell(status) => {
                    let updated = ResourceClaim { status: Some(status), ..(*claim).clone() };
                    claim = view.replace_status(&updated).await?;
                }
                Step::RemoveFinalizer => {
                    let mut updated = (*claim).clone();
                    updated.metadata.finalizers.get_or_insert_default().retain(|name| name != FINALIZER);
                    match view.replace(&updated).await {
                        Err(error) if error.is_not_found() => return Ok(None),
                        result => claim = result?,
                    }
                }
                Step::Delete => view.delete(&*claim, DeleteParams::default()).await?,
            }
        }
        Ok(None)
    }
}

impl Reservations {
    /// Whether a pod that holds a reservation may still need it. In doubt the API server is asked.
    async fn uses(&self, claim: &Key, name: &str, uid: &str) -> Result<bool, SyncError> {
        let cached = self.world.pods.get(&claim.namespace, name).filter(|pod| meta::uid(&**pod) == uid);
        let pod = match cached {
            Some(pod) => Some(pod),
            None => {
                let found = self.world.pods.api(&claim.namespace).get_opt(name).await;
                let found = found.context("get", || format!("Pod {}/{name}", claim.namespace))?;
                found.filter(|pod| meta::uid(pod) == uid).map(Arc::new)
            }
        };
        Ok(pod.is_some_and(|pod| !claims::is_done(&pod)))
    }

    fn owner_is_done(&self, claim: &ResourceClaim) -> bool {
        let Some(key) = meta::owner_key::<Pod>(&claim.metadata) else { return false };
        let pod = self.world.pods.by_key(&key);
        pod.is_some_and(|pod| {
            meta::is_controlled_by(&claim.metadata, meta::uid(&*pod)) && claims::is_done(&pod)
        })
    }
}
