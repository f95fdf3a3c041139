//! Tells in the status of each ResourceQuota what its namespace uses.

mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::Loops;
use crate::garbage_collector::Resources;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta, pods};
use usage::Usage;

/// Kinds that quotas may also count by their bare plural.
const BARE: [&str; 4] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];

/// `resources` knows how many objects there are of every kind.
pub fn start(world: &Arc<World>, loops: &mut Loops, resources: Arc<Resources>) {
    let queue = Queue::default();
    let due = queue.clone();
    world.resource_quotas.on(move |change| {
        if let Some(quota) = change.new {
            due.add(Key::of(&**quota));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| {
        // Those that come and go are counted below.
        let (Some(old), Some(new)) = (change.old, change.new) else { return };
        if pods::is_finished(old) != pods::is_finished(new) || old.spec != new.spec {
            make_due(&seen, &due, meta::namespace(&**new));
        }
    });
    // What Services and claims use changes with their specs, too.
    let (due, seen) = (queue.clone(), world.clone());
    world.services.on(move |change| {
        let used = |service: &Arc<Service>| usage::of_service(service);
        if change.is_update() && change.old.map(used) != change.new.map(used) {
            change.new.into_iter().for_each(|service| make_due(&seen, &due, meta::namespace(&**service)));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.persistent_volume_claims.on(move |change| {
        let used = |claim: &Arc<PersistentVolumeClaim>| usage::of_claim(claim);
        if change.is_update() && change.old.map(used) != change.new.map(used) {
            change.new.into_iter().for_each(|claim| make_due(&seen, &due, meta::namespace(&**claim)));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    resources.on_count(move |namespace| make_due(&seen, &due, namespace));
    let controller = Quotas { world: world.clone(), resources };
    loops.add(controller, queue);
}

fn make_due(world: &World, due: &Queue, namespace: &str) {
    for quota in world.resource_quotas.by_namespace(namespace) {
        due.add_lazily(Key::of(&*quota));
    }
}

struct Quotas {
    world: Arc<World>,
    resources: Arc<Resources>,
}

impl Controller for Quotas {
    const NAME: &'static str = "resourcequota-controller";
    const QUEUE: &'static str = "resourcequota_primary";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(quota) = self.world.resource_quotas.by_key(key) else { return Ok(None) };
        let Some(spec) = &quota.spec else { return Ok(None) };
        let used = self.used(&key.namespace, spec);
        let hard = spec.hard.clone().unwrap_or_default();
        let told: BTreeMap<String, Text> = hard
            .keys()
            .map(|name| {
                let amount = used.get(name).copied().unwrap_or(Quantity::ZERO);
                (name.clone(), Text(amount.to_string()))
            })
            .collect();
        let status = ResourceQuotaStatus {
            hard: (!hard.is_empty()).then_some(hard),
            used: (!told.is_empty()).then_some(told),
        };
        if quota.status.as_ref() != Some(&status) {
            let updated = ResourceQuota { status: Some(status), ..(*quota).clone() };
            self.world.resource_quotas.replace_status(&updated).await?;
        }
        Ok(None)
    }
}

impl Quotas {
    fn used(&self, namespace: &str, spec: &ResourceQuotaSpec) -> Usage {
        let mut used = Usage::new();
        for pod in self.world.pods.by_namespace(namespace) {
            if usage::in_scope(spec, &pod) {
                usage::add(&mut used, usage::of_pod(&pod));
            }
        }
        let scoped = usage::has_scopes(spec);
        for claim in self.world.persistent_volume_claims.by_namespace(namespace) {
            if !scoped || usage::claim_in_scope(spec, &claim) {
                usage::add(&mut used, usage::of_claim(&claim));
            }
        }
        if scoped {
            return used;
        }
        let claims = self.world.resource_claims.by_namespace(namespace);
        let classes = if claims.is_empty() { Vec::new() } else { self.world.device_classes.list() };
        for claim in claims {
            let pod = usage::owner_of(&claim).and_then(|(name, uid)| {
                self.world.pods.get(namespace, name).filter(|pod| meta::uid(&**pod) == uid)
            });
            usage::add(&mut used, usage::of_devices(&claim, &classes, pod.as_deref()));
        }
        for service in self.world.services.by_namespace(namespace) {
            usage::add(&mut used, usage::of_service(&service));
        }
        for name in spec.hard.iter().flatten().map(|(name, _)| name) {
            if used.contains_key(name) {
                continue;
            }
            let resource =
                name.strip_prefix("count/").or_else(|| BARE.contains(&name.as_str()).then_some(name));
            if let Some(resource) = resource {
                let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
                used.insert(
                    name.clone(),
                    Quantity::units(self.resources.count(&format!("{plural}.{group}"), namespace)),
                );
            }
        }
        used
    }
}
