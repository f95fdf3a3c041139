//! Something computed from cached objects, brought up to date when it is looked at.
//!
//! The cache keeps a log of changes; looking costs one comparison of revisions per resource as long as nothing
//! has changed, and otherwise exactly the changes. So who has written a RoleBinding and got its answer is held
//! to it (or served by it) in the next request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::status::GroupResource;
use parking_lot::{RwLock, RwLockReadGuard};
use serde_json::Value;

use crate::cache::Caches;
use crate::cache::event::Change;
use crate::cache::resource::ResourceCache;

/// How many changes are taken from the log at a time.
const BATCH: usize = 512;

/// What can be computed change by change.
pub trait Derived: Send + Sync {
    /// The object of that name is now this, or gone.
    fn apply(
        &mut self,
        resource: GroupResource<'static>,
        namespace: &str,
        name: &str,
        object: Option<&Value>,
    );
    /// Forget all objects of that resource: they are told anew.
    fn forget(&mut self, resource: GroupResource<'static>);
}

struct Feed {
    resource: GroupResource<'static>,
    cache: Arc<ResourceCache>,
    seen: AtomicU64,
}

/// A [`Derived`] value and the caches that it follows.
pub struct Followed<T> {
    value: RwLock<T>,
    feeds: Vec<Feed>,
}

impl<T: Derived> Followed<T> {
    pub fn new(value: T, caches: &Caches, resources: &[GroupResource<'static>]) -> Self {
        let feeds = resources
            .iter()
            .map(|resource| Feed {
                resource: *resource,
                cache: caches.resource(resource.group, resource.resource),
                // Never equal to a revision: the first look reads everything.
                seen: AtomicU64::new(u64::MAX),
            })
            .collect();
        Self { value: RwLock::new(value), feeds }
    }

    /// The value as of now.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        if self.feeds.iter().any(Feed::is_behind) {
            let mut value = self.value.write();
            for feed in self.feeds.iter().filter(|feed| feed.is_behind()) {
                feed.catch_up(&mut *value);
            }
        }
        self.value.read()
    }
}

#[cfg(test)]
impl<T> Followed<T> {
    /// A value that follows nothing, changed by hand.
    pub fn fixed(value: T) -> Self {
        Self { value: RwLock::new(value), feeds: Vec::new() }
    }

    pub fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.write());
    }
}

impl Feed {
    fn is_behind(&self) -> bool {
        self.cache.revision() != self.seen.load(Ordering::Acquire)
    }

    /// Called with the value's write lock held, so by one thread at a time.
    fn catch_up(&self, value: &mut impl Derived) {
        let mut seen = self.seen.load(Ordering::Acquire);
        // At the first time, and where the store has been set back.
        if seen > self.cache.revision() {
            seen = self.read_all(value);
        }
        loop {
            match self.cache.events_after(seen, BATCH) {
                Ok(events) if events.is_empty() => break,
                Ok(events) => {
                    for event in events {
                        let object = &event.object;
                        let now = (event.change != Change::Deleted).then(|| object.value());
                        value.apply(self.resource, object.namespace(), object.name(), now.as_ref());
                        seen = event.revision;
                    }
                }
                Err(_) => seen = self.read_all(value),
            }
        }
        self.seen.store(seen, Ordering::Release);
    }

    fn read_all(&self, value: &mut impl Derived) -> u64 {
        value.forget(self.resource);
        let mut objects = Vec::new();
        let revision = self.cache.scan("", "", |object| {
            objects.push(object.clone());
            true
        });
        for object in objects {
            let now = object.value();
            value.apply(self.resource, object.namespace(), object.name(), Some(&now));
        }
        revision
    }
}
