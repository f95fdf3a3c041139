//! Publishes the certificates by which pods trust the API server: a ConfigMap in every namespace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kit::{Controller, Key, Queue, SyncError, World};
use crate::service_account::is_active;
use crate::{Config, Loops};

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
     Kubernetes clusters.",
);

pub fn start(world: &Arc<World>, loops: &mut Loops, config: &Config) {
    let queue = Queue::default();
    let due = queue.clone();
    world.namespaces.on(move |change| {
        if let Some(namespace) = change.new {
            due.add(Key::of(&**namespace));
        }
    });
    let due = queue.clone();
    world.config_maps.on(move |change| {
        if let Some(map) = change.object()
            && change.old.is_some()
        {
            let key = Key::of(&**map);
            if key.name == NAME {
                due.add(Key::cluster(key.namespace));
            }
        }
    });
    let publisher = RootCa {
        world: world.clone(),
        data: BTreeMap::from([(FILE.to_owned(), config.root_ca_pem.clone())]),
    };
    loops.add(publisher, queue);
}

struct RootCa {
    world: Arc<World>,
    data: BTreeMap<String, String>,
}

impl Controller for RootCa {
    const NAME: &'static str = "root-ca-certificate-publisher";
    const QUEUE: &'static str = "root_ca_cert_publisher";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let namespace = self.world.namespaces.by_key(key);
        if !namespace.is_some_and(|namespace| is_active(&namespace)) {
            return Ok(None);
        }
        match self.world.config_maps.get(&key.name, NAME) {
            Some(map) if map.data.as_ref() == Some(&self.data) => Ok(None),
            Some(map) => {
                let mut map = (*map).clone();
                map.data = Some(self.data.clone());
                self.world.config_maps.replace(&map).await.map(|_| None)
            }
            None => match self.world.config_maps.create(&self.config_map(&key.name)).await {
                Err(error) if !error.is_already_exists() => Err(error),
                _ => Ok(None),
            },
        }
    }
}

impl RootCa {
    fn config_map(&self, namespace: &str) -> ConfigMap {
        let (annotation, text) = DESCRIPTION;
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(NAME.to_owned()),
                annotations: Some(BTreeMap::from([(annotation.to_owned(), text.to_owned())])),
                ..Default::default()
            },
            data: Some(self.data.clone()),
            ..Default::default()
        }
    }
}
