//! Shared informers: one cache per kind (and selector) per process, kept by one watch.

mod cache;
mod follow;
mod raw;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use kube::Resource;
use kube::api::ApiResource;
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use cache::{Cache, Writer};
use follow::follow;

/// A kind that can be watched: any typed object of `k8s-openapi`.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}
impl<K> Watched for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// One change of the cache, in the order in which the API server made them.
#[derive(Clone, Debug)]
pub enum Delta<K> {
    Added(Arc<K>),
    Updated {
        old: Arc<K>,
        new: Arc<K>,
    },
    Deleted(Arc<K>),
    /// Everything that existed when the subscription began has been told. Sent once.
    Synced,
}

impl<K> Delta<K> {
    /// The object as it is now (or was last, when deleted); nothing for [`Delta::Synced`].
    pub fn object(&self) -> Option<&Arc<K>> {
        match self {
            Delta::Added(object) | Delta::Updated { new: object, .. } | Delta::Deleted(object) => {
                Some(object)
            }
            Delta::Synced => None,
        }
    }
}

/// The receiving end of [`Informer::subscribe`].
pub type Subscription<K> = mpsc::UnboundedReceiver<Delta<K>>;

/// A read-only view of one kind, kept current by a watch. Clones share the cache.
pub struct Informer<K> {
    cache: Arc<Mutex<Cache<K>>>,
    synced: watch::Receiver<bool>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), synced: self.synced.clone() }
    }
}

impl<K: Watched> Informer<K> {
    fn start(client: kube::Client, config: watcher::Config) -> Self {
        let cache = Arc::new(Mutex::new(Cache::default()));
        let (sender, synced) = watch::channel(false);
        let writer = Box::new(Writer::new(cache.clone()));
        tokio::spawn(follow(client, ApiResource::erase::<K>(&()), config, sender, writer));
        Self { cache, synced }
    }

    /// The object of that name; the namespace of a cluster-scoped one is `""`.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.cache.lock().objects.get(&key).cloned()
    }

    /// Every object, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.cache.lock().objects.values().cloned().collect()
    }

    /// Every object that `keep` keeps.
    pub fn filter(&self, keep: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let cache = self.cache.lock();
        cache.objects.values().filter(|k| keep(k)).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.cache.lock().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What exists now as [`Delta::Added`], then [`Delta::Synced`] (once the first list is complete), then every
    /// change. The channel is unbounded: a subscriber does no slow work between receives; it marks a key as
    /// due and works it off elsewhere.
    pub fn subscribe(&self) -> Subscription<K> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut cache = self.cache.lock();
        for object in cache.objects.values() {
            // The receiver is held right here, so nothing can be lost.
            let _ = sender.send(Delta::Added(object.clone()));
        }
        if cache.synced {
            let _ = sender.send(Delta::Synced);
        }
        cache.subscribers.push(sender);
        receiver
    }

    /// Resolves once the first list is complete.
    pub async fn synced(&self) {
        // An error means that the watch task has ended with the runtime: nothing will be waiting long.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }
}

/// The informers of one process: asking twice for a kind gives the same cache.
#[derive(Clone)]
pub struct Informers {
    client: kube::Client,
    running: Running,
}

/// By kind and field selector: an `Informer` of that kind.
type Running = Arc<Mutex<HashMap<(TypeId, String), Box<dyn Any + Send + Sync>>>>;

impl Informers {
    pub fn new(client: kube::Client) -> Self {
        Self { client, running: Arc::default() }
    }

    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The same caches for a part that writes with an identity of its own.
    pub fn acting_as(&self, client: kube::Client) -> Self {
        Self { client, running: self.running.clone() }
    }

    /// All objects of a kind, in all namespaces.
    pub fn all<K: Watched>(&self) -> Informer<K> {
        self.informer(String::new())
    }

    /// The objects of a kind that a field selector picks, such as `spec.nodeName=worker-1`.
    pub fn fields<K: Watched>(&self, selector: &str) -> Informer<K> {
        self.informer(selector.to_owned())
    }

    fn informer<K: Watched>(&self, field_selector: String) -> Informer<K> {
        let mut running = self.running.lock();
        let key = (TypeId::of::<K>(), field_selector.clone());
        if let Some(informer) = running.get(&key).and_then(|any| any.downcast_ref::<Informer<K>>()) {
            return informer.clone();
        }
        let mut config = watcher::Config::default();
        if !field_selector.is_empty() {
            config = config.fields(&field_selector);
        }
        let informer = Informer::start(self.client.clone(), config);
        running.insert(key, Box::new(informer.clone()));
        informer
    }
}
