//! Services and controllers, as far as they say which pods belong together: the built-in spreading counts these.

use std::collections::{BTreeMap, HashMap};

use client::Delta;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;

use crate::labels::{Labels, contains_all};
use crate::pod::PodInfo;

type Key = (String, String);

#[derive(Default)]
pub struct Workloads {
    /// Selectors of Services, by namespace and name.
    services: BTreeMap<Key, Labels>,
    controllers: HashMap<(&'static str, Key), LabelSelector>,
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl Workloads {
    pub fn service_changed(&mut self, delta: &Delta<Service>) {
        match delta {
            Delta::Added(service) | Delta::Updated { new: service, .. } => {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
                match selector.filter(|selector| !selector.is_empty()) {
                    Some(selector) => drop(self.services.insert(key(&**service), selector)),
                    None => drop(self.services.remove(&key(&**service))),
                }
            }
            Delta::Deleted(service) => drop(self.services.remove(&key(&**service))),
            Delta::Synced => {}
        }
    }

    pub fn replica_set_changed(&mut self, delta: &Delta<ReplicaSet>) {
        self.controller_changed("ReplicaSet", delta, |set| {
            set.spec.as_ref().map(|spec| spec.selector.clone())
        });
    }

    pub fn stateful_set_changed(&mut self, delta: &Delta<StatefulSet>) {
        self.controller_changed("StatefulSet", delta, |set| {
            set.spec.as_ref().map(|spec| spec.selector.clone())
        });
    }

    pub fn replication_controller_changed(&mut self, delta: &Delta<ReplicationController>) {
        self.controller_changed("ReplicationController", delta, |controller| {
            let selector = controller.spec.as_ref()?.selector.clone()?;
            Some(LabelSelector { match_labels: Some(selector), match_expressions: None })
        });
    }

    fn controller_changed<K: Resource>(
        &mut self,
        kind: &'static str,
        delta: &Delta<K>,
        selector: impl Fn(&K) -> Option<LabelSelector>,
    ) {
        let Some(object) = delta.object() else { return };
        let key = (kind, key(&**object));
        match (delta, selector(object)) {
            (Delta::Added(_) | Delta::Updated { .. }, Some(selector)) => {
                self.controllers.insert(key, selector);
            }
            _ => drop(self.controllers.remove(&key)),
        }
    }

    /// Which pods belong together with this one: those of its Services and of its controller.
    pub fn selector_of(&self, pod: &PodInfo) -> Option<LabelSelector> {
        let namespace = pod.namespace();
        let labels = pod.pod.metadata.labels.as_ref();
        let mut selector = LabelSelector::default();
        let services = self.services.range((namespace.to_owned(), String::new())..);
        for (_, wanted) in services.take_while(|((other, _), _)| other == namespace) {
            if contains_all(Some(wanted), labels) {
                let equal = selector.match_labels.get_or_insert_default();
                equal.extend(wanted.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        let owners = pod.pod.metadata.owner_references.iter().flatten();
        if let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) {
            let kind = match owner.kind.as_str() {
                "ReplicaSet" => "ReplicaSet",
                "StatefulSet" => "StatefulSet",
                "ReplicationController" => "ReplicationController",
                _ => "",
            };
            let owner = (kind, (namespace.to_owned(), owner.name.clone()));
            if let Some(controller) = self.controllers.get(&owner) {
                if let Some(equal) = &controller.match_labels {
                    selector.match_labels.get_or_insert_default().extend(equal.clone());
                }
                if let Some(requirements) = &controller.match_expressions {
                    selector.match_expressions.get_or_insert_default().extend(requirements.clone());
                }
            }
        }
        let some = selector.match_labels.is_some() || selector.match_expressions.is_some();
        some.then_some(selector)
    }
}
