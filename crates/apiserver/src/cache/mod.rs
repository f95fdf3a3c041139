//! The watch cache: every object of every resource, as bytes; all reads are answered from here.
//!
//! [`Caches`] is filled from the store when the server starts and kept by the store's observer, which runs before a
//! write is acknowledged: a client that has its answer reads its own write.

pub mod event;
pub mod object;
pub mod resource;
pub mod select;
pub mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use store::{Revision, Store};
use tokio::sync::watch;
use tracing::error;

use object::{Key, Meta, Object, ObjectError};
use resource::ResourceCache;

/// Under this every object is kept in the store: `/registry/<group, or "core">/<resource>/<key>`.
const ROOT: &str = "/registry/";

/// Group and resource: the versions of a group share one storage.
pub type StorageName = (Box<str>, Box<str>);

/// Which fields of a resource can be selected.
pub type SelectableFields = Arc<dyn Fn(&str, &str) -> Arc<[String]> + Send + Sync>;

pub struct Caches {
    resources: ArcSwap<AHashMap<StorageName, Arc<ResourceCache>>>,
    /// Serializes additions to `resources`.
    adding: Mutex<()>,
    /// Every change up to here is in the caches.
    applied: watch::Sender<Revision>,
    /// What `applied` was when everything had been loaded: a resource without a cache has not changed since.
    floor: AtomicU64,
    selectable: SelectableFields,
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
    pub fn load(store: &Store, selectable: SelectableFields) -> Result<Arc<Self>, LoadError> {
        let caches = Arc::new(Self {
            resources: ArcSwap::default(),
            adding: Mutex::new(()),
            applied: watch::Sender::new(0),
            floor: AtomicU64::new(0),
            selectable,
        });
        let mut failure = None;
        let observer = caches.clone();
        let revision = store.observe(
            ROOT.as_bytes(),
            |entry| {
                if failure.is_none() {
                    failure = caches.load_entry(&entry).err();
                }
            },
            move |events, revision| observer.apply(events, revision),
        )?;
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        caches.floor.store(revision, Ordering::Release);
        for resource in caches.resources.load().values() {
            resource.loaded(revision);
        }
        caches.applied.send_if_modified(|applied| {
            let behind = *applied < revision;
            *applied = revision.max(*applied);
            behind
        });
        Ok(caches)
    }

    fn load_entry(&self, entry: &store::Entry) -> Result<(), ObjectError> {
        let Some((group, resource, key)) = split_key(&entry.key) else {
            return Err(ObjectError::Damaged { key: String::from_utf8_lossy(&entry.key).into_owned() });
        };
        let object = self.parse(group, resource, key, entry)?;
        self.resource(group, resource).load(object);
        Ok(())
    }

    /// An object that another server wrote, or this one before it was started again.
    fn parse(
        &self,
        group: &str,
        resource: &str,
        key: &str,
        entry: &store::Entry,
    ) -> Result<Object, ObjectError> {
        let value = serde_json::from_slice(Object::stored_json(&entry.value))
            .map_err(|source| ObjectError::Json { key: key.to_owned(), source })?;
        let meta = Meta::of(&value, &(self.selectable)(group, resource));
        Object::from_stored(key.into(), entry.modified, &entry.value, Arc::new(meta))
    }

    fn apply(&self, events: &[store::Event], revision: Revision) {
        for event in events {
            let Some((group, resource, key)) = split_key(&event.key) else {
                continue;
            };
            let cache = self.resource(group, resource);
            let Some(entry) = &event.entry else {
                cache.remove(key, event.revision);
                continue;
            };
            let known = event.note.clone().and_then(|note| note.downcast::<Meta>().ok());
            let object = match known {
                Some(meta) => Object::from_stored(Key::from(key), entry.modified, &entry.value, meta),
                None => self.parse(group, resource, key, entry),
            };
            match object {
                Ok(object) => cache.put(object),
                Err(error) => error!(%error, "a change was left out of the cache"),
            }
        }
        self.applied.send_replace(revision);
    }

    /// The cache of a resource; made when first asked for.
    pub fn resource(&self, group: &str, resource: &str) -> Arc<ResourceCache> {
        let name: StorageName = (group.into(), resource.into());
        if let Some(cache) = self.resources.load().get(&name) {
            return cache.clone();
        }
        let _adding = self.adding.lock();
        let known = self.resources.load_full();
        if let Some(cache) = known.get(&name) {
            return cache.clone();
        }
        let cache = Arc::new(ResourceCache::new(self.floor.load(Ordering::Acquire)));
        let mut resources = AHashMap::clone(&known);
        resources.insert(name, cache.clone());
        self.resources.store(Arc::new(resources));
        cache
    }

    /// Every resource that has been asked for or has objects.
    pub fn resources(&self) -> Arc<AHashMap<StorageName, Arc<ResourceCache>>> {
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

    pub fn selectable_fields(&self, group: &str, resource: &str) -> Arc<[String]> {
        (self.selectable)(group, resource)
    }
}

/// Where an object is kept in the store.
pub fn store_key(group: &str, resource: &str, key: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{resource}/{key}")
}

/// The cache key of an object.
pub fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn split_key(stored: &[u8]) -> Option<(&str, &str, &str)> {
    let mut parts = std::str::from_utf8(stored).ok()?.strip_prefix(ROOT)?.splitn(3, '/');
    let (group, resource, key) = (parts.next()?, parts.next()?, parts.next()?);
    Some((if group == "core" { "" } else { group }, resource, key))
}
