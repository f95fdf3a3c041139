//! Changes of existing objects: update, patch and apply, of the object or one of its subresources.

use std::sync::Arc;

use api::disabled;
use api::field::{FieldErrors, Path};
use api::patch::apply::{Updater, keep_times, update_managed_fields};
use api::status::Status;
use serde_json::Value;
use store::Expect;

use super::{ATTEMPTS, Outcome, Phase, Refused, Writer, meta};
use crate::admission::Operation;
use crate::alloc::records;
use crate::cache::object::Object;
use crate::strategy;

/// What an update makes of the current state. Called again when another write got in between.
pub struct Change<'a> {
    pub make: &'a (dyn Fn(&Value) -> Result<Value, Status> + Sync),
    /// `make` has worked out the managed fields (server-side apply).
    pub managed: bool,
    /// The client has sent the object as a whole, based on a state that it is to name.
    pub whole: bool,
}

impl Writer<'_> {
    /// Replaces the object by what `change` makes of it.
    pub async fn update(&self, change: &Change<'_>) -> Result<Outcome, Status> {
        let key = self.key(self.name);
        let mut sure = false;
        for _ in 0..ATTEMPTS {
            let Some(live) = self.served.cache.get(&key) else {
                if self.holds(None, &key, &mut sure).await? {
                    return Err(self.missing(change));
                }
                continue;
            };
            let outcome = match self.update_from(&live, change).await {
                Ok(Outcome::Removed(object)) => return Ok(Outcome::Removed(object)),
                Ok(Outcome::Stored(object)) if object.revision != live.revision => {
                    return Ok(Outcome::Stored(object));
                }
                Ok(outcome) => Ok(outcome),
                // The cache has been told of what was there instead. Whoever named a version is told by the check of
                // the next attempt.
                Err(Refused::Raced) => {
                    sure = true;
                    continue;
                }
                Err(Refused::Failed(status)) => Err(status),
            };
            if self.holds(Some(&live), &key, &mut sure).await? {
                return outcome;
            }
        }
        Err(self.modified())
    }

    /// Whoever sends an object as a whole, with the uid of one that was there, means that one.
    fn missing(&self, change: &Change<'_>) -> Status {
        let sent = if change.whole { (change.make)(&Value::Null).ok() } else { None };
        match sent.as_ref().map(|sent| meta::text(sent, "uid")).filter(|uid| !uid.is_empty()) {
            Some(uid) => self.another(uid, ""),
            None => self.not_found(),
        }
    }

    async fn update_from(&self, live: &Arc<Object>, change: &Change<'_>) -> Result<Outcome, Refused> {
        let old = self.served.value(&self.state.outbound, live).await.map_err(Refused::Failed)?;
        let (new, allocation) = self.prepared(&old, change).await.map_err(Refused::Failed)?;
        let removed = removes(&new);
        if new == old && !removed && (self.dry_run || self.is_stored_as_now(live)) {
            // Nothing changes: no revision, no event.
            return Ok(if self.dry_run { Outcome::DryRun(new) } else { Outcome::Stored(live.clone()) });
        }
        if self.dry_run {
            return Ok(Outcome::DryRun(new));
        }
        if removed {
            let stripped = match new == old {
                true => live.clone(),
                false => self.put(&live.key, &new, Expect::Revision(live.revision)).await?,
            };
            // A failure, or a write in between, leaves an object that any later write removes.
            return match self.remove(&stripped).await {
                // Nothing held it any more, and somebody else has been faster.
                Err(Refused::Raced) if self.served.cache.get(&stripped.key).is_none() => {
                    Ok(Outcome::Removed(stripped))
                }
                removed => removed.map(Outcome::Removed),
            };
        }
        if allocation.is_some() {
            records::record(self.state, &new).await.map_err(Refused::Failed)?;
        }
        let stored = self.put(&live.key, &new, Expect::Revision(live.revision)).await?;
        if let Some(allocation) = allocation {
            allocation.commit();
            records::release(self.state, &old, Some(&new)).await;
        }
        Ok(Outcome::Stored(stored))
    }

    /// Whether updates without a version are refused, rather than applied to whatever is there.
    fn needs_version(&self) -> bool {
        self.served.strategy.versioned_update && self.subresource.is_empty()
    }

    /// Whether the object would be stored just as it is: in the same version, encrypted with the same key.
    fn is_stored_as_now(&self, live: &Object) -> bool {
        let storage = &self.served.storage;
        let encryption = &self.state.caches.encryption;
        self.served.is_stored_as_now(live)
            && encryption.is_current(&storage.group, &storage.plural, &live.meta.sealed)
    }

    async fn prepared(
        &self,
        old: &Value,
        change: &Change<'_>,
    ) -> Result<(Value, Option<crate::alloc::Allocation>), Status> {
        let resource = &self.served.resource;
        let mut new = (change.make)(old)?;
        self.check_name(&mut new)?;
        self.check_namespace(&mut new)?;
        let version = meta::text(&new, "resourceVersion");
        let unversioned = meta::version(version).map_err(|why| Status::failure(500, "", why))? == 0;
        if !unversioned && version != meta::text(old, "resourceVersion") {
            return Err(self.modified());
        }
        if unversioned && self.needs_version() {
            let mut errors = FieldErrors::new();
            let path = Path::new("metadata");
            errors.invalid(&path.child("resourceVersion"), 0, "must be specified for an update");
            return Err(Status::invalid(&resource.gvk.group, &resource.plural, self.name, &errors));
        }
        self.carry_over(&mut new, old)?;
        self.served.complete(&mut new);
        disabled::take_out(&resource.gvk, &mut new, old);
        strategy::isolate(self.served, self.subresource, &mut new, old);
        if !change.managed {
            self.own_fields(Some(old), &mut new);
        }
        let mut new = self.admit(Phase::Mutate, Operation::Update, new, old).await?;
        self.served.complete(&mut new);
        if self.subresource.is_empty() {
            (self.served.strategy.update)(&mut new, old);
        }
        let allocation = match strategy::is_service(self.served) && self.subresource.is_empty() {
            true => Some(self.state.services.reserve(&self.state.store, &mut new, Some(old)).await?),
            false => None,
        };
        if self.served.strategy.generation
            && strategy::is_wish(self.subresource)
            && strategy::spec_changed(self.served, &new, old)
        {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            meta::of(&mut new).insert("generation".to_owned(), (generation + 1).into());
        }
        let validated = matches!(self.subresource, "status" | "approval" | "finalize");
        let mut forgiven = Vec::new();
        let errors = match strategy::is_wish(self.subresource) || validated {
            true => self.served.judge_change(self.subresource, &new, old, &mut forgiven),
            false => FieldErrors::new(),
        };
        self.tell(forgiven);
        if !errors.is_empty() {
            return Err(Status::invalid(&resource.gvk.group, &resource.gvk.kind, self.name, &errors));
        }
        if self.subresource.is_empty() {
            self.warn(&new, Some(old));
        }
        let mut new = self.admit(Phase::Validate, Operation::Update, new, old).await?;
        if change.managed {
            keep_times(old, &mut new);
        }
        Ok((new, allocation))
    }

    /// Records whose the fields are that have been set.
    pub(super) fn own_fields(&self, old: Option<&Value>, new: &mut Value) {
        let Some(schema) = self.served.resource.schema() else {
            return;
        };
        let updater = Updater {
            manager: &self.manager,
            api_version: &self.served.api_version,
            subresource: self.subresource,
            time: &meta::now(),
            ignored: strategy::ignored(self.served, self.subresource),
        };
        update_managed_fields(old, new, schema, &updater);
    }
}

/// Whether the object is being deleted and nothing keeps it any more: the last finalizer goes with this write, or went
/// with one before whose removal another write came in between of.
fn removes(new: &Value) -> bool {
    let list = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    let kept = list(&new["metadata"]["finalizers"])
        || new["kind"] == "Namespace" && list(&new["spec"]["finalizers"]);
    let deleted = new["metadata"]["deletionTimestamp"].is_string();
    let grace = new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    deleted && grace == 0 && !kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn what_nothing_keeps_goes() {
        let check = |kind: &str, metadata: serde_json::Value, spec: serde_json::Value, expected: bool| {
            let object = json!({"kind": kind, "metadata": metadata, "spec": spec});
            assert_eq!(super::removes(&object), expected, "{object}");
        };
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
        check("Pod", going.clone(), json!({}), true);
        check("Namespace", going, json!({"finalizers": ["kubernetes"]}), false);
        let held = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]});
        check("Pod", held, json!({}), false);
        let graceful = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30});
        check("Pod", graceful, json!({}), false);
        check("Pod", json!({}), json!({}), false);
    }
}
