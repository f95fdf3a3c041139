//! How the caches follow the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ahash::AHashMap;
use parking_lot::Mutex;
use store::{Entry, Event, Observer, Revision, Store};
use tracing::error;

use super::keys::split_key;
use super::object::{Encoded, Key, Object, ObjectError};
use super::{Caches, LoadError};

/// Fills the caches; they follow the store from then on.
pub(super) async fn follow(caches: &Arc<Caches>, store: &Store) -> Result<(), LoadError> {
    let failure = Arc::new(Mutex::new(None));
    let follower =
        Follower { caches: caches.clone(), loading: Loading::new(), failure: Some(failure.clone()) };
    store.observe(b"/", follower).await?;
    match failure.lock().take() {
        Some(failure) => Err(LoadError::Object(failure)),
        None => Ok(()),
    }
}

/// By group and plural, the objects found so far.
type Loading = AHashMap<(Box<str>, Box<str>), BTreeMap<Key, Arc<Object>>>;

struct Follower {
    caches: Arc<Caches>,
    loading: Loading,
    /// Where the first load tells what it could not read. Such an object keeps the server from starting; one that
    /// appears later is left out, so that the others are still served.
    failure: Option<Arc<Mutex<Option<ObjectError>>>>,
}

impl Follower {
    fn object(&self, group: &str, plural: &str, key: &str, entry: &Entry) -> Result<Object, ObjectError> {
        let fields = self.caches.selectable_fields(group, plural);
        let store_key = String::from_utf8_lossy(&entry.key);
        let opened = self.caches.encryption.open(group, plural, &store_key, &entry.value)?;
        let (plain, sealed) = opened;
        let mut encoded = Encoded::read(key, &plain, &fields)?;
        encoded.set_sealed(sealed);
        Ok(Object::new(key.into(), entry.modified, &encoded))
    }
}

impl Observer for Follower {
    fn begin(&mut self) {
        self.loading = Loading::new();
    }

    fn found(&mut self, entry: Entry) {
        // Other keys are not objects.
        let Some((group, plural, key)) = split_key(&entry.key) else { return };
        match self.object(group, plural, key, &entry) {
            Ok(object) => {
                let name = (group.into(), plural.into());
                self.loading.entry(name).or_default().insert(object.key.clone(), Arc::new(object));
            }
            Err(error) => match &self.failure {
                Some(failure) => {
                    failure.lock().get_or_insert(error);
                }
                None => error!(%error, "an object was left out of the cache"),
            },
        }
    }

    fn loaded(&mut self, revision: Revision) {
        let caches = &self.caches;
        let mut loading = std::mem::take(&mut self.loading);
        caches.floor.store(revision, Ordering::Release);
        for (group, plural) in loading.keys() {
            caches.resource(group, plural);
        }
        for (group, of_group) in caches.resources().iter() {
            for (plural, cache) in of_group {
                let objects = loading.remove(&(group.clone(), plural.clone())).unwrap_or_default();
                cache.reset(objects, revision);
            }
        }
        caches.applied.send_replace(revision);
        self.failure = None;
    }

    fn changed(&mut self, events: &[Event], revision: Revision) {
        for event in events {
            let Some((group, plural, key)) = split_key(&event.key) else { continue };
            let cache = self.caches.resource(group, plural);
            let Some(entry) = &event.entry else {
                cache.remove(key, event.revision);
                continue;
            };
            let object = match event.note.as_ref().and_then(|note| note.downcast_ref::<Encoded>()) {
                Some(encoded) => Ok(Object::new(key.into(), entry.modified, encoded)),
                None => self.object(group, plural, key, entry),
            };
            match object {
                Ok(object) => cache.put(object),
                Err(error) => error!(%error, "a change was left out of the cache"),
            }
        }
        self.caches.applied.send_replace(revision);
    }

    fn compacted(&mut self, revision: Revision) {
        for cache in self.caches.resources().values().flat_map(|of_group| of_group.values()) {
            cache.compact(revision);
        }
        self.caches.floor.fetch_max(revision, Ordering::AcqRel);
    }
}
