//! Deletes what nobody owns any more, lets owners go after their dependents (foreground), or the dependents without
//! their owner (orphan).
//!
//! The graph only says who is worth a look. What is done is decided on the object as the API server has it at that
//! moment, and bound to that revision: a stale graph never deletes anything.

mod graph;
mod resources;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::discovery::Scope;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::Loops;
use crate::kit::events::Recorder;
use crate::kit::{Context, Controller, Key, Queue, SyncError, World, meta};
use graph::{Deletion, FOREGROUND, ORPHAN, Object, Presence};
pub use resources::Resources;

/// Starts the collector; its knowledge of all resources serves others, too.
pub fn start(world: &Arc<World>, loops: &mut Loops) -> Arc<Resources> {
    let queue = Queue::default();
    let resources = Resources::new(world.client.clone(), queue.clone());
    resources.follow_views(world);
    let watching = resources.clone();
    loops.spawn(move |shutdown| watching.keep_current(shutdown));
    loops.add(Collector { resources: resources.clone(), events: world.events.clone() }, queue);
    resources
}

struct Collector {
    resources: Arc<Resources>,
    events: Recorder,
}

/// An object as the API server has it, and how to write it.
struct Live {
    api: Api<DynamicObject>,
    scope: Scope,
    meta: ObjectMeta,
    api_version: String,
    kind: String,
    described: String,
}

/// The owners of an object, by what has become of them.
#[derive(Default)]
struct Owners {
    solid: Vec<OwnerReference>,
    dangling: Vec<OwnerReference>,
    /// They wait for their dependents to go.
    waiting: Vec<OwnerReference>,
}

impl Controller for Collector {
    const NAME: &'static str = "garbage-collector";
    const QUEUE: &'static str = "garbage_collector_attempt_to_delete";
    const WORKERS: usize = 20;

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let uid = &key.name;
        let Some(object) = self.resources.graph.lock().get(uid).cloned() else {
            return Ok(None);
        };
        let Some(live) = self.live(uid, &object).await? else {
            let due = self.resources.graph.lock().remove(uid);
            self.resources.add_due(due);
            return Ok(None);
        };
        match Deletion::of(&live.meta) {
            Deletion::Plain => {}
            Deletion::Orphaning => self.orphan_dependents(uid, &live).await?,
            Deletion::Foreground => self.delete_dependents(uid, &live).await?,
            Deletion::No => self.judge(uid, &live).await?,
        }
        Ok(None)
    }
}

impl Collector {
    async fn live(&self, uid: &str, object: &Object) -> Result<Option<Live>, SyncError> {
        let described = format!("{} {}", object.resource, Key::new(&object.namespace, &object.name));
        let Some((resource, scope)) = self.resources.get(&object.resource) else {
            // Discovered soon, or gone with its CRD.
            return Err(SyncError::Waiting(format!("resource {} to be discovered", object.resource)));
        };
        let api = self.resources.api(&resource, &scope, &object.namespace);
        let found = api.get_metadata_opt(&object.name).await.context("get", || described.clone())?;
        let found = found.filter(|found| found.metadata.uid.as_deref() == Some(uid));
        let (api_version, kind) = (resource.api_version, resource.kind);
        Ok(found.map(|found| Live { api, scope, meta: found.metadata, api_version, kind, described }))
    }

    /// Deletes an object if all of its owners are gone.
    async fn judge(&self, uid: &str, live: &Live) -> Result<(), SyncError> {
        if live.meta.owner_references.iter().flatten().next().is_none() {
            return Ok(());
        }
        let owners = self.owners(live).await?;
        if !owners.solid.is_empty() {
            if owners.dangling.is_empty() && owners.waiting.is_empty() {
                return Ok(());
            }
            // Others still want it: only the references that have come to nothing go.
            let patch = json!({"metadata": {"ownerReferences": owners.solid, "resourceVersion": live.meta.resource_version}});
            return self.patch(live, &patch).await;
        }
        let dependents = self.resources.graph.lock().dependents(uid);
        let waits = !owners.waiting.is_empty() && !dependents.is_empty();
        if waits && self.closes_a_circle(&dependents) {
            self.unblock_owners(live).await?;
        }
        let policy = if waits {
            PropagationPolicy::Foreground
        } else if meta::has_finalizer(&live.meta, ORPHAN) {
            PropagationPolicy::Orphan
        } else if meta::has_finalizer(&live.meta, FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            // The references were judged at this revision; taking their blocks away has made another.
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: live.meta.resource_version.clone().filter(|_| !waits),
            }),
            ..DeleteParams::default()
        };
        match live.api.delete(live.meta.name.as_deref().unwrap_or_default(), &params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            result => result.map(drop).context("delete", || live.described.clone()),
        }
    }

    /// Whether one of the dependents waits for its own: it may be waiting for this very object.
    fn closes_a_circle(&self, dependents: &[String]) -> bool {
        let graph = self.resources.graph.lock();
        dependents.iter().any(|dependent| graph.presence(dependent) == Presence::Waiting)
    }

    /// Lets the owners of an object go before it does.
    async fn unblock_owners(&self, live: &Live) -> Result<(), SyncError> {
        let mut owners = live.meta.owner_references.clone().unwrap_or_default();
        for owner in &mut owners {
            owner.block_owner_deletion = Some(false);
        }
        let patch =
            json!({"metadata": {"ownerReferences": owners, "resourceVersion": live.meta.resource_version}});
        self.patch(live, &patch).await
    }

    async fn owners(&self, live: &Live) -> Result<Owners, SyncError> {
        let mut owners = Owners::default();
        for reference in live.meta.owner_references.iter().flatten() {
            let presence = self.resources.graph.lock().presence_for(&reference.uid, &live.meta);
            let list = match presence {
                Presence::Elsewhere => {
                    self.tell_invalid(live, reference);
                    if self.exists(live, reference).await? { &mut owners.solid } else { &mut owners.dangling }
                }
                Presence::Present => &mut owners.solid,
                Presence::Waiting => &mut owners.waiting,
                Presence::Absent => &mut owners.dangling,
                Presence::Unknown if self.exists(live, reference).await? => &mut owners.solid,
                Presence::Unknown => {
                    self.resources.graph.lock().remember_absent(&reference.uid);
                    &mut owners.dangling
                }
            };
            list.push(reference.clone());
        }
        Ok(owners)
    }

    /// Asks the API server for an owner that no watch has told of. In doubt it exists.
    async fn exists(&self, live: &Live, reference: &OwnerReference) -> Result<bool, SyncError> {
        let Some((resource, scope)) = self.resources.of_kind(&reference.api_version, &reference.kind) else {
            return Ok(true);
        };
        // Nothing outside of namespaces can be owned by something inside of one.
        if scope == Scope::Namespaced && live.scope == Scope::Cluster {
            self.tell_invalid(live, reference);
            return Ok(true);
        }
        let api = self.resources.api(&resource, &scope, live.meta.namespace.as_deref().unwrap_or_default());
        let owner = api.get_metadata_opt(&reference.name).await;
        let owner = owner.context("get", || {
            format!("{} {}, an owner of {}", reference.kind, reference.name, live.described)
        })?;
        Ok(owner.is_some_and(|owner| owner.metadata.uid.as_deref() == Some(&reference.uid)))
    }

    /// References from one namespace into another mean nothing, and whoever made one should know.
    fn tell_invalid(&self, live: &Live, reference: &OwnerReference) {
        let object = ObjectReference {
            api_version: Some(live.api_version.clone()),
            kind: Some(live.kind.clone()),
            namespace: live.meta.namespace.clone(),
            name: live.meta.name.clone(),
            uid: live.meta.uid.clone(),
            ..Default::default()
        };
        let message = format!(
            "ownerRef [{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
            format_args!("{}/{}", reference.api_version, reference.kind),
            live.meta.namespace.as_deref().unwrap_or_default(),
            reference.name,
            reference.uid,
            live.meta.namespace.as_deref().unwrap_or_default()
        );
        self.events.warning_of("garbage-collector-controller", object, "OwnerRefInvalidNamespace", message);
    }

    /// Foreground: lets an owner go once nothing that blocks it is left.
    async fn delete_dependents(&self, uid: &str, live: &Live) -> Result<(), SyncError> {
        let blockers = self.resources.graph.lock().blockers(uid);
        if blockers.is_empty() {
            return self.remove_finalizer(live, FOREGROUND).await;
        }
        for blocker in blockers {
            self.resources.queue.add(Key::cluster(blocker));
        }
        Ok(())
    }

    /// Orphan: takes the owner out of its dependents' references, then lets it go.
    async fn orphan_dependents(&self, uid: &str, live: &Live) -> Result<(), SyncError> {
        let dependents = self.resources.graph.lock().dependents(uid);
        for dependent in dependents {
            let Some(object) = self.resources.graph.lock().get(&dependent).cloned() else { continue };
            let Some(dependent) = self.live(&dependent, &object).await? else { continue };
            let references = dependent.meta.owner_references.iter().flatten();
            let others: Vec<_> = references.filter(|reference| reference.uid != uid).collect();
            let patch = json!({"metadata": {"ownerReferences": others, "resourceVersion": dependent.meta.resource_version}});
            self.patch(&dependent, &patch).await?;
        }
        self.remove_finalizer(live, ORPHAN).await
    }

    async fn remove_finalizer(&self, live: &Live, finalizer: &str) -> Result<(), SyncError> {
        let finalizers = live.meta.finalizers.iter().flatten();
        let others: Vec<_> = finalizers.filter(|other| *other != finalizer).collect();
        let patch =
            json!({"metadata": {"finalizers": others, "resourceVersion": live.meta.resource_version}});
        self.patch(live, &patch).await
    }

    async fn patch(&self, live: &Live, patch: &serde_json::Value) -> Result<(), SyncError> {
        let name = live.meta.name.as_deref().unwrap_or_default();
        match live.api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(patched) => {
                // Ahead of the watch, so that nothing is decided on the old references again.
                let uid = patched.uid().unwrap_or_default();
                let mut graph = self.resources.graph.lock();
                let due = match graph.get(&uid).map(|object| object.resource.clone()) {
                    Some(resource) => graph.observe(&uid, Object::new(resource, &patched.metadata)),
                    None => graph::Due::default(),
                };
                drop(graph);
                self.resources.add_due(due);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error).context("patch", || live.described.clone()),
        }
    }
}
