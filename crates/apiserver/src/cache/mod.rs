//! The watch cache: every object of every resource, as bytes; all reads are answered from here.
//!
//! [`Caches`] is filled from the store when the server starts and kept by an observer of the store ([`follow`]), which
//! runs before a write is acknowledged: a client that has its answer reads its own write. Where several servers share a
//! store, [`store::Store::settle`] makes sure that a read sees the writes of the others.

pub mod event;
pub mod feed;
mod follow;
pub mod keys;
pub mod object;
pub mod resource;
pub mod select;
mod wake;
pub mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use store::{Revision, Store};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::encryption::Encryption;
pub use keys::store_key;
use object::ObjectError;
use resource::ResourceCache;

/// Caches by group and plural: the versions of a group share one storage.
pub type ByName = AHashMap<Box<str>, AHashMap<Box<str>, Arc<ResourceCache>>>;

/// Which fields of a resource can be selected.
pub type SelectableFields = Arc<dyn Fn(&str, &str) -> Arc<[String]> + Send + Sync>;

/// Field paths by group and plural.
type CustomFields = AHashMap<(Box<str>, Box<str>), Arc<[String]>>;

pub struct Caches {
    resources: ArcSwap<ByName>,
    /// Serializes additions to `resources`.
    adding: Mutex<()>,
    /// Every change up to here is in the caches.
    applied: watch::Sender<Revision>,
    /// What `applied` was when everything had been loaded: a resource without a cache has not changed since.
    floor: AtomicU64,
    selectable: SelectableFields,
    /// The same of custom resources.
    custom_fields: ArcSwap<CustomFields>,
    runtime: Handle,
    pub encryption: Encryption,
}

/// The cache could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl Caches {
    /// Loads what the store holds and follows it from there.
    pub async fn load(
        store: &Store,
        selectable: SelectableFields,
        encryption: Encryption,
    ) -> Result<Arc<Self>, LoadError> {
        let caches = Arc::new(Self {
            resources: ArcSwap::default(),
            adding: Mutex::new(()),
            applied: watch::Sender::new(0),
            floor: AtomicU64::new(0),
            selectable,
            custom_fields: ArcSwap::default(),
            runtime: Handle::current(),
            encryption,
        });
        follow::follow(&caches, store).await?;
        Ok(caches)
    }

    /// The cache of a resource; made when first asked for.
    pub fn resource(&self, group: &str, plural: &str) -> Arc<ResourceCache> {
        let known =
            |resources: &ByName| resources.get(group).and_then(|of_group| of_group.get(plural)).cloned();
        if let Some(cache) = known(&self.resources.load()) {
            return cache;
        }
        let _adding = self.adding.lock();
        let mut resources = ByName::clone(&self.resources.load());
        if let Some(cache) = known(&resources) {
            return cache;
        }
        let cache = Arc::new(ResourceCache::new(self.floor.load(Ordering::Acquire), self.runtime.clone()));
        resources.entry(group.into()).or_default().insert(plural.into(), cache.clone());
        self.resources.store(Arc::new(resources));
        cache
    }

    /// Every resource that has been asked for or has objects.
    pub fn resources(&self) -> Arc<ByName> {
        self.resources.load_full()
    }

    /// Every change up to this revision is in the caches.
    pub fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Wakes whenever [`Self::applied`] moves.
    pub fn progress(&self) -> watch::Receiver<Revision> {
        self.applied.subscribe()
    }

    /// Which fields of a custom resource can be selected from now on.
    pub fn select_fields(&self, group: &str, plural: &str, fields: Arc<[String]>) {
        let known = self.custom_fields.load();
        let name = (Box::from(group), Box::from(plural));
        if known.get(&name).map_or(fields.is_empty(), |known| *known == fields) {
            return;
        }
        self.custom_fields.rcu(|known| {
            let mut known = AHashMap::clone(known);
            known.insert(name.clone(), fields.clone());
            known
        });
    }

    pub fn selectable_fields(&self, group: &str, resource: &str) -> Arc<[String]> {
        let custom = self.custom_fields.load();
        if !custom.is_empty()
            && let Some(fields) = custom.get(&(Box::from(group), Box::from(resource)))
        {
            return fields.clone();
        }
        (self.selectable)(group, resource)
    }
}

/// The cache key of an object.
pub fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}
