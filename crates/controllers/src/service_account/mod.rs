//! Gives every namespace its `default` ServiceAccount.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World};

const DEFAULT: &str = "default";

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.namespaces.on(move |change| {
        if let Some(namespace) = change.new {
            due.add(Key::of(&**namespace));
        }
    });
    let due = queue.clone();
    world.service_accounts.on(move |change| {
        if let (Some(old), None) = (change.old, change.new) {
            let key = Key::of(&**old);
            if key.name == DEFAULT {
                due.add(Key::cluster(key.namespace));
            }
        }
    });
    loops.add(ServiceAccounts { world: world.clone() }, queue);
}

struct ServiceAccounts {
    world: Arc<World>,
}

impl Controller for ServiceAccounts {
    const NAME: &'static str = "service-account-controller";
    const QUEUE: &'static str = "serviceaccount";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let namespace = self.world.namespaces.by_key(key);
        let exists = self.world.service_accounts.get(&key.name, DEFAULT).is_some();
        if exists || !namespace.is_some_and(|namespace| is_active(&namespace)) {
            return Ok(None);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                namespace: Some(key.name.clone()),
                name: Some(DEFAULT.to_owned()),
                ..Default::default()
            },
            ..Default::default()
        };
        match self.world.service_accounts.create(&account).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(None),
        }
    }
}

/// Whether objects may still be created in a namespace.
pub fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}
