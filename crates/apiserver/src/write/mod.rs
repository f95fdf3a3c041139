//! Changing objects: the steps from what a client sent to what is stored, the same for every kind.
//!
//! A write works on the newest state in the watch cache and is stored only if that is still the newest; else it is
//! done again from the start ([`update`], [`delete`]). Nothing is locked while it is worked on. The cache may be behind
//! other servers of the same store; what was not decided by the store is then decided again on the newest state.

pub mod create;
pub mod delete;
pub mod meta;
pub mod update;

use std::sync::Arc;
use std::time::Instant;

use api::status::{GroupResource, Status};
use parking_lot::Mutex;
use serde_json::Value;
use store::{Expect, Written};

use crate::UserInfo;
use crate::admission::{AdmissionRequest, Operation};
use crate::alloc::records;
use crate::cache::object::{Encoded, Object};
use crate::cache::{object_key, store_key};
use crate::catalog::Served;
use crate::options::WriteOptions;
use crate::outbound::Outbound;
use crate::state::{State, store_failed};
use crate::subresources::scale::view::View;

/// Who writes what, and how.
pub struct Writer<'a> {
    pub state: &'a Arc<State>,
    pub served: &'a Arc<Served>,
    pub user: &'a UserInfo,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    pub name: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub dry_run: bool,
    /// The options as admission sees them.
    pub options: Value,
    /// Who owns the fields that are set.
    pub manager: String,
    pub warnings: &'a Mutex<Vec<String>>,
}

/// What a write has led to.
pub enum Outcome {
    /// This state is stored.
    Stored(Arc<Object>),
    /// It would have been stored.
    DryRun(Value),
    /// The update has removed the last reason to keep an object that was being deleted.
    Removed(Arc<Object>),
}

/// Why a write to the store did not happen.
enum Refused {
    /// Somebody else was faster.
    Raced,
    Failed(Status),
}

/// Writes that raced are tried so often. Each attempt sees a newer state, so that somebody always gets through.
const ATTEMPTS: usize = 64;

impl<'a> Writer<'a> {
    /// For a write of this server itself, to a cluster-scoped object that is yet to be named.
    pub fn own(
        state: &'a Arc<State>,
        served: &'a Arc<Served>,
        user: &'a UserInfo,
        manager: &str,
        warnings: &'a Mutex<Vec<String>>,
    ) -> Self {
        Self {
            state,
            served,
            user,
            namespace: "",
            name: "",
            subresource: "",
            dry_run: false,
            options: WriteOptions::default().to_value("UpdateOptions"),
            manager: manager.to_owned(),
            warnings,
        }
    }
}

impl Writer<'_> {
    pub fn group_resource(&self) -> GroupResource<'_> {
        (self.served.resource.gvk.group.as_str(), self.served.resource.plural.as_str()).into()
    }

    fn key(&self, name: &str) -> String {
        object_key(self.namespace, name)
    }

    fn not_found(&self) -> Status {
        Status::not_found(self.group_resource(), self.name)
    }

    fn modified(&self) -> Status {
        Status::modified(self.group_resource(), self.name)
    }

    /// Whether what was decided on the state `live` of the cache holds. Where other servers write to the same store, a
    /// decision that did not come to a write may rest on a state that is no longer the newest; then it is to be made
    /// again. `sure` is set once the cache is known to be new enough for this request.
    async fn holds(&self, live: Option<&Arc<Object>>, key: &str, sure: &mut bool) -> Result<bool, Status> {
        if *sure || !self.state.store.is_shared() {
            return Ok(true);
        }
        self.state.settle().await?;
        *sure = true;
        let revision = |object: &Arc<Object>| object.revision;
        Ok(self.served.cache.get(key).as_ref().map(revision) == live.map(revision))
    }

    /// Lets the admission plugins see a write: those that change it, or those that judge it.
    async fn admit(
        &self,
        phase: Phase,
        operation: Operation,
        object: Value,
        old: &Value,
    ) -> Result<Value, Status> {
        // Admitted already, as the Binding that was sent.
        if self.subresource == "binding" {
            return Ok(object);
        }
        let gvr = self.served.resource.gvr();
        let name = match object["metadata"]["name"].as_str() {
            Some(name) if self.name.is_empty() => name.to_owned(),
            _ => self.name.to_owned(),
        };
        // A scale is admitted as what clients write: as a Scale, not as the workload that it is a view of.
        let resource = &self.served.resource;
        let scale = resource.subresource(self.subresource).filter(|_| self.subresource == "scale");
        let view = View::of(self.served);
        let old_scale = scale.map(|_| view.scale(old));
        let mut request = AdmissionRequest {
            user: self.user,
            operation,
            resource: &gvr,
            kind: scale.map_or(&resource.gvk, |scale| &scale.gvk),
            subresource: self.subresource,
            namespace: self.namespace,
            name: &name,
            object: if scale.is_some() { view.scale(&object) } else { Value::Null },
            old_object: old_scale.as_ref().unwrap_or(old),
            dry_run: self.dry_run,
            options: &self.options,
            warnings: Vec::new(),
        };
        let mut object = object;
        if scale.is_none() {
            std::mem::swap(&mut request.object, &mut object);
        }
        let admitted = match phase {
            Phase::Mutate => self.state.admission.mutate(&mut request, self.state).await,
            Phase::Validate => self.state.admission.validate(&mut request, self.state).await,
        };
        let AdmissionRequest { object: seen, warnings, .. } = request;
        self.warnings.lock().extend(warnings);
        admitted?;
        Ok(match scale {
            Some(_) => view.with_replicas(object, &seen["spec"]["replicas"]),
            None => seen,
        })
    }

    /// Tells the client what it should think about.
    fn warn(&self, object: &Value, old: Option<&Value>) {
        self.tell(api::warnings::of_object(&self.served.resource.gvk, object, old));
    }

    fn tell(&self, told: Vec<String>) {
        if told.is_empty() {
            return;
        }
        let mut warnings = self.warnings.lock();
        for warning in told {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }

    /// Stores `object` (in the served version) under `key`.
    async fn put(&self, key: &str, object: &Value, expect: Expect) -> Result<Arc<Object>, Refused> {
        let storage = &self.served.storage;
        let mut encoded = if storage.gvk == self.served.resource.gvk {
            encoded(object, &storage.selectable_fields)?
        } else {
            let stored = self.served.stored(&self.state.outbound, object).await;
            let converted = stored.map_err(Refused::Failed)?;
            encoded(&converted, &storage.selectable_fields)?
        };
        let store_key = store_key(&storage.group, &storage.plural, key);
        let encryption = &self.state.caches.encryption;
        let (stored, sealed) = encryption
            .seal(&storage.group, &storage.plural, &store_key, &encoded.json)
            .map_err(|error| Refused::Failed(Status::internal(error)))?;
        if let Some(encoded) = Arc::get_mut(&mut encoded) {
            encoded.set_sealed(sealed);
        }
        let operation = if expect == Expect::Absent { "create" } else { "update" };
        let begun = Instant::now();
        let written = self.state.store.put(store_key, stored, expect, Some(encoded.clone())).await;
        self.stored(operation, begun, &written);
        let Written { revision, .. } = refused(written)?;
        // The cache has it already, unless somebody has changed it again.
        if let Some(object) = self.served.cache.get(key).filter(|object| object.revision == revision) {
            return Ok(object);
        }
        Ok(Arc::new(Object::new(key.into(), revision, &encoded)))
    }

    /// Counts what the store was asked.
    fn stored(&self, operation: &'static str, begun: Instant, written: &Result<Written, store::Error>) {
        let failed = matches!(written, Err(error) if !matches!(error, store::Error::Conflict { .. }));
        let storage = &self.served.storage;
        let (group, resource) = (&storage.group, &storage.plural);
        self.state.metrics.storage.asked(operation, group, resource, begun.elapsed(), failed);
    }

    /// Removes the object that was last seen as `live`.
    async fn remove(&self, live: &Object) -> Result<Arc<Object>, Refused> {
        let storage = &self.served.storage;
        let key = store_key(&storage.group, &storage.plural, &live.key);
        let begun = Instant::now();
        let written = self.state.store.delete(key, Expect::Revision(live.revision), None).await;
        self.stored("delete", begun, &written);
        let Written { revision, .. } = refused(written)?;
        if storage.group.is_empty() && storage.plural == "services" {
            records::release(self.state, &live.value(), None).await;
        }
        Ok(Arc::new(live.at(revision)))
    }
}

#[derive(Clone, Copy)]
enum Phase {
    Mutate,
    Validate,
}

fn encoded(object: &Value, fields: &[String]) -> Result<Arc<Encoded>, Refused> {
    Encoded::of(object, fields).map(Arc::new).map_err(|error| Refused::Failed(Status::internal(error)))
}

fn refused(written: Result<Written, store::Error>) -> Result<Written, Refused> {
    written.map_err(|error| match error {
        store::Error::Conflict { .. } => Refused::Raced,
        error => Refused::Failed(store_failed("stored", &error)),
    })
}

impl Outcome {
    /// The state in the served version.
    pub async fn into_value(self, served: &Served, outbound: &Outbound) -> Result<Value, Status> {
        match self {
            Self::DryRun(value) => Ok(value),
            Self::Stored(object) | Self::Removed(object) => served.value(outbound, &object).await,
        }
    }
}
