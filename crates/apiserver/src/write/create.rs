//! New objects.

use api::disabled;
use api::status::Status;
use serde_json::Value;
use store::Expect;

use super::{Outcome, Phase, Refused, Writer, meta};
use crate::admission::Operation;
use crate::alloc::records;
use crate::strategy;

/// How often a generated name may be taken before the client is told to try again.
const NAME_ATTEMPTS: usize = 8;

impl Writer<'_> {
    /// Stores a decoded object. With `managed`, its managed fields have been worked out already (server-side apply).
    pub async fn create(&self, object: Value, managed: bool) -> Result<Outcome, Status> {
        if !self.state.store.is_shared() {
            return self.create_once(object, managed).await;
        }
        // A namespace that another server has just made is not missing.
        let before = self.state.caches.applied();
        match self.create_once(object.clone(), managed).await {
            Err(status) if !status.is("AlreadyExists") => {
                self.state.settle().await?;
                if self.state.caches.applied() == before {
                    return Err(status);
                }
                self.create_once(object, managed).await
            }
            outcome => outcome,
        }
    }

    async fn create_once(&self, mut object: Value, managed: bool) -> Result<Outcome, Status> {
        if meta::version(meta::text(&object, "resourceVersion")).is_ok_and(|version| version != 0) {
            // Upstream has no reason for it either.
            return Err(Status::failure(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.check_namespace(&mut object)?;
        if !self.name.is_empty() {
            self.check_name(&mut object)?;
        }
        self.served.complete(&mut object);
        disabled::take_out(&self.served.resource.gvk, &mut object, &Value::Null);
        self.fill_metadata(&mut object);
        strategy::reset_new(self.served, &mut object);
        if !managed {
            self.own_fields(None, &mut object);
        }
        let mut object = self.admit(Phase::Mutate, Operation::Create, object, &Value::Null).await?;
        // What a plugin has added is defaulted like the rest.
        self.served.complete(&mut object);
        (self.served.strategy.create)(&mut object, self.user);
        let base = meta::text(&object, "generateName").to_owned();
        let name = meta::text(&object, "name").to_owned();
        if !self.name.is_empty() || !name.is_empty() || base.is_empty() {
            return self.create_named(object).await.map_err(|refused| match refused {
                Refused::Raced => Status::already_exists(self.group_resource(), &name),
                Refused::Failed(status) => status,
            });
        }
        self.create_generated(object, &base).await
    }

    /// Under a name that nobody has yet.
    async fn create_generated(&self, mut object: Value, base: &str) -> Result<Outcome, Status> {
        let mut name = String::new();
        for _ in 0..NAME_ATTEMPTS {
            name = meta::generate_name(base);
            meta::of(&mut object).insert("name".to_owned(), name.as_str().into());
            match self.create_named(object.clone()).await {
                Err(Refused::Raced) => {}
                Err(Refused::Failed(status)) => return Err(status),
                Ok(outcome) => return Ok(outcome),
            }
        }
        Err(Status::generate_name_conflict(self.group_resource(), &name))
    }

    async fn create_named(&self, mut object: Value) -> Result<Outcome, Refused> {
        let resource = &self.served.resource;
        let allocation = match strategy::is_service(self.served) {
            true => {
                let reserved = self.state.services.reserve(&self.state.store, &mut object, None).await;
                Some(reserved.map_err(Refused::Failed)?)
            }
            false => None,
        };
        let errors = self.served.judge_new(&object);
        let name = meta::text(&object, "name").to_owned();
        if !errors.is_empty() {
            return Err(Refused::Failed(Status::invalid(
                &resource.gvk.group,
                &resource.gvk.kind,
                &name,
                &errors,
            )));
        }
        self.warn(&object, None);
        let object = self
            .admit(Phase::Validate, Operation::Create, object, &Value::Null)
            .await
            .map_err(Refused::Failed)?;
        let key = self.key(&name);
        if self.dry_run {
            return match self.served.cache.get(&key) {
                Some(_) => Err(Refused::Raced),
                None => Ok(Outcome::DryRun(object)),
            };
        }
        if allocation.is_some() {
            records::record(self.state, &object).await.map_err(Refused::Failed)?;
        }
        let stored = self.put(&key, &object, Expect::Absent).await?;
        if let Some(allocation) = allocation {
            allocation.commit();
        }
        Ok(Outcome::Stored(stored))
    }

    /// Identity and time; what only an existing object has is dropped.
    fn fill_metadata(&self, object: &mut Value) {
        let generation = self.served.strategy.generation;
        let metadata = meta::of(object);
        for field in
            ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "resourceVersion"]
        {
            metadata.remove(field);
        }
        metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".to_owned(), meta::now().into());
        if generation {
            metadata.insert("generation".to_owned(), 1.into());
        }
    }
}
