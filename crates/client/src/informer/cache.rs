//! What is known of the objects of one kind, and who wants to hear of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::warn;

use super::follow::Sink;
use super::raw::Raw;
use super::{Delta, Watched};

/// Namespace and name; the namespace of a cluster-scoped object is empty.
pub type Key = (String, String);

pub struct Cache<K> {
    pub objects: HashMap<Key, Arc<K>>,
    pub subscribers: Vec<mpsc::UnboundedSender<Delta<K>>>,
    pub synced: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), subscribers: Vec::new(), synced: false }
    }
}

impl<K: Watched> Cache<K> {
    fn tell(&mut self, delta: &Delta<K>) {
        self.subscribers.retain(|subscriber| subscriber.send(delta.clone()).is_ok());
    }

    fn apply(&mut self, object: &Raw) {
        let key = key_of(object);
        let known = self.objects.get(&key);
        if known.is_some_and(|known| known.meta().resource_version == object.meta().resource_version) {
            return;
        }
        let Some(new) = decoded::<K>(object) else { return };
        let delta = match self.objects.insert(key, new.clone()) {
            Some(old) => Delta::Updated { old, new },
            None => Delta::Added(new),
        };
        self.tell(&delta);
    }

    fn delete(&mut self, object: &Raw) {
        if let Some(known) = self.objects.remove(&key_of(object)) {
            self.tell(&Delta::Deleted(decoded(object).unwrap_or(known)));
        }
    }

    /// After a (re)list: what it did not name is gone.
    fn retain(&mut self, listed: &HashSet<Key>) {
        let gone: Vec<Key> = self.objects.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            if let Some(old) = self.objects.remove(&key) {
                self.tell(&Delta::Deleted(old));
            }
        }
        if !self.synced {
            self.synced = true;
            self.tell(&Delta::Synced);
        }
    }
}

fn key_of(object: &Raw) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// An object that is not what its kind says must not keep the others from being known.
fn decoded<K: Watched>(object: &Raw) -> Option<Arc<K>> {
    match object.decode::<K>() {
        Ok(mut decoded) => {
            // Who wrote which field concerns nobody here, and is often longer than the rest.
            decoded.meta_mut().managed_fields = None;
            Some(Arc::new(decoded))
        }
        Err(error) => {
            let (namespace, name) = (object.namespace(), object.name_any());
            warn!(kind = %K::kind(&()), namespace, name, %error, "an object cannot be understood: it is left out");
            None
        }
    }
}

/// What writes a cache.
pub struct Writer<K> {
    cache: Arc<Mutex<Cache<K>>>,
    listed: HashSet<Key>,
}

impl<K> Writer<K> {
    pub fn new(cache: Arc<Mutex<Cache<K>>>) -> Self {
        Self { cache, listed: HashSet::new() }
    }
}

impl<K: Watched> Sink for Writer<K> {
    fn begin(&mut self) {
        self.listed.clear();
    }

    fn listed(&mut self, object: &Raw) {
        self.listed.insert(key_of(object));
        self.cache.lock().apply(object);
    }

    fn complete(&mut self) {
        self.cache.lock().retain(&std::mem::take(&mut self.listed));
    }

    fn applied(&mut self, object: &Raw) {
        self.cache.lock().apply(object);
    }

    fn deleted(&mut self, object: &Raw) {
        self.cache.lock().delete(object);
    }
}
