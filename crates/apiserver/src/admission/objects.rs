//! The stored objects that decisions depend on, as the watch cache has them.
//!
//! A trait, so that authentication, authorization and admission are tested with a handful of objects and know
//! nothing of the cache.

use std::sync::Arc;

use api::status::GroupResource;
use serde_json::Value;

pub const CONFIG_MAPS: GroupResource<'static> = GroupResource::new("", "configmaps");
pub const LIMIT_RANGES: GroupResource<'static> = GroupResource::new("", "limitranges");
pub const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");
pub const NODES: GroupResource<'static> = GroupResource::new("", "nodes");
pub const CLAIMS: GroupResource<'static> = GroupResource::new("", "persistentvolumeclaims");
pub const VOLUMES: GroupResource<'static> = GroupResource::new("", "persistentvolumes");
pub const PODS: GroupResource<'static> = GroupResource::new("", "pods");
pub const QUOTAS: GroupResource<'static> = GroupResource::new("", "resourcequotas");
pub const SECRETS: GroupResource<'static> = GroupResource::new("", "secrets");
pub const SERVICES: GroupResource<'static> = GroupResource::new("", "services");
pub const SERVICE_ACCOUNTS: GroupResource<'static> = GroupResource::new("", "serviceaccounts");
const RBAC: &str = "rbac.authorization.k8s.io";
pub const ROLES: GroupResource<'static> = GroupResource::new(RBAC, "roles");
pub const CLUSTER_ROLES: GroupResource<'static> = GroupResource::new(RBAC, "clusterroles");
pub const ROLE_BINDINGS: GroupResource<'static> = GroupResource::new(RBAC, "rolebindings");
pub const CLUSTER_ROLE_BINDINGS: GroupResource<'static> = GroupResource::new(RBAC, "clusterrolebindings");
pub const PRIORITY_CLASSES: GroupResource<'static> =
    GroupResource::new("scheduling.k8s.io", "priorityclasses");
pub const RUNTIME_CLASSES: GroupResource<'static> = GroupResource::new("node.k8s.io", "runtimeclasses");
pub const STORAGE_CLASSES: GroupResource<'static> = GroupResource::new("storage.k8s.io", "storageclasses");
pub const VOLUME_ATTACHMENTS: GroupResource<'static> =
    GroupResource::new("storage.k8s.io", "volumeattachments");
const DRA: &str = "resource.k8s.io";
pub const DEVICE_CLASSES: GroupResource<'static> = GroupResource::new(DRA, "deviceclasses");
pub const DEVICE_CLAIMS: GroupResource<'static> = GroupResource::new(DRA, "resourceclaims");
pub const INGRESS_CLASSES: GroupResource<'static> = GroupResource::new("networking.k8s.io", "ingressclasses");

/// Reads of current objects. The namespace of cluster-scoped objects is empty.
pub trait Objects: Send + Sync {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// Those of one namespace; with an empty one, all.
    fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>>;
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// The value of an annotation; empty where there is none.
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key].as_str().unwrap_or_default()
}

/// The value of a label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// The elements of an array, none where there is no array.
pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The place at `path`, made where it is missing. Where something other than an object is in the way, it goes:
/// the schema check has refused such objects before.
pub fn at<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Value {
    let mut place = object;
    for key in path {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[*key];
    }
    place
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Key = (String, String, String);

    /// Objects in a map.
    #[derive(Default)]
    pub(crate) struct Fixture(BTreeMap<Key, Arc<Value>>);

    impl Fixture {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn add(mut self, resource: GroupResource<'_>, object: Value) -> Self {
            let key = (resource.to_string(), namespace(&object).to_owned(), name(&object).to_owned());
            self.0.insert(key, Arc::new(object));
            self
        }
    }

    impl Objects for Fixture {
        fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
            let key = (resource.to_string(), namespace.to_owned(), name.to_owned());
            self.0.get(&key).cloned()
        }

        fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
            let resource = resource.to_string();
            self.0
                .iter()
                .filter(|((of, within, _), _)| {
                    *of == resource && (namespace.is_empty() || within == namespace)
                })
                .map(|(_, object)| object.clone())
                .collect()
        }
    }
}
