//! Writes of one kind, whose answers go straight into its [`View`].

use std::fmt::Debug;
use std::sync::Arc;

use client::Watched;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use super::error::{Context, SyncError};
use super::key::Key;
use super::meta;
use super::view::View;

/// How the objects of a scope are addressed.
pub trait Reach<K> {
    fn api(client: kube::Client, namespace: &str) -> Api<K>;
}

impl<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>> Reach<K> for NamespaceResourceScope {
    fn api(client: kube::Client, namespace: &str) -> Api<K> {
        Api::namespaced(client, namespace)
    }
}

impl<K: Resource<Scope = ClusterResourceScope, DynamicType = ()>> Reach<K> for ClusterResourceScope {
    fn api(client: kube::Client, _: &str) -> Api<K> {
        Api::all(client)
    }
}

impl<K> View<K>
where
    K: Watched + Serialize,
    <K as Resource>::Scope: Reach<K>,
{
    pub fn api(&self, namespace: &str) -> Api<K> {
        <K as Resource>::Scope::api(self.client(), namespace)
    }

    pub async fn create(&self, object: &K) -> Result<Arc<K>, SyncError> {
        let namespace = object.namespace().unwrap_or_default();
        let created = self.api(&namespace).create(&PostParams::default(), object).await;
        let created = created.context("create", || {
            let name = object.meta().name.as_ref().or(object.meta().generate_name.as_ref());
            describe::<K>(&Key::new(namespace, name.cloned().unwrap_or_default()))
        })?;
        Ok(self.assume(created))
    }

    /// Replaces the object, if it is still at the revision that was read.
    pub async fn replace(&self, object: &K) -> Result<Arc<K>, SyncError> {
        let key = Key::of(object);
        let api = self.api(&key.namespace);
        let replaced = api.replace(&key.name, &PostParams::default(), object).await;
        Ok(self.assume(replaced.context("update", || describe::<K>(&key))?))
    }

    /// Replaces the status, if the object is still at the revision that was read.
    pub async fn replace_status(&self, object: &K) -> Result<Arc<K>, SyncError> {
        let key = Key::of(object);
        let api = self.api(&key.namespace);
        let replaced = api.replace_status(&key.name, &PostParams::default(), object).await;
        Ok(self.assume(replaced.context("update the status of", || describe::<K>(&key))?))
    }

    pub async fn merge_patch(&self, key: &Key, patch: &Value) -> Result<Arc<K>, SyncError> {
        self.patch(key, None, &Patch::Merge(patch)).await
    }

    pub async fn strategic_patch(&self, key: &Key, patch: &Value) -> Result<Arc<K>, SyncError> {
        self.patch(key, None, &Patch::Strategic(patch)).await
    }

    pub async fn merge_patch_status(&self, key: &Key, patch: &Value) -> Result<Arc<K>, SyncError> {
        self.patch(key, Some("status"), &Patch::Merge(patch)).await
    }

    pub async fn strategic_patch_status(&self, key: &Key, patch: &Value) -> Result<Arc<K>, SyncError> {
        self.patch(key, Some("status"), &Patch::Strategic(patch)).await
    }

    async fn patch<P: Serialize + Debug>(
        &self,
        key: &Key,
        subresource: Option<&str>,
        patch: &Patch<P>,
    ) -> Result<Arc<K>, SyncError> {
        let api = self.api(&key.namespace);
        let params = PatchParams::default();
        let patched = match subresource {
            Some(subresource) => api.patch_subresource(subresource, &key.name, &params, patch).await,
            None => api.patch(&key.name, &params, patch).await,
        };
        Ok(self.assume(patched.context("patch", || describe::<K>(key))?))
    }

    /// Deletes exactly this object, not a successor of its name. One that is gone already is no error.
    pub async fn delete(&self, object: &K, params: DeleteParams) -> Result<(), SyncError> {
        let key = Key::of(object);
        let uid = meta::uid(object).to_owned();
        let params = params.preconditions(Preconditions { uid: Some(uid.clone()), ..Default::default() });
        match self.api(&key.namespace).delete(&key.name, &params).await {
            Ok(answer) => {
                match answer.left().filter(is_pending_deletion) {
                    Some(left) => drop(self.assume(left)),
                    None => self.assume_deleted(&key, &uid),
                }
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.assume_deleted(&key, &uid);
                Ok(())
            }
            Err(source) => Err(source).context("delete", || describe::<K>(&key)),
        }
    }
}

/// Some kinds answer a deletion with the object; it is gone for good if nothing holds it up.
fn is_pending_deletion<K: Resource>(object: &K) -> bool {
    let meta = object.meta();
    meta.deletion_timestamp.is_some()
        && (meta.deletion_grace_period_seconds.is_some_and(|seconds| seconds > 0)
            || meta.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty()))
}

fn describe<K: Resource<DynamicType = ()>>(key: &Key) -> String {
    format!("{} {key}", K::kind(&()))
}
