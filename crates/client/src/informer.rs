//! Shared informers: one cache per kind (and selector) per process, kept by one watch.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

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

/// Namespace and name; the namespace of a cluster-scoped object is empty.
type Key = (String, String);

struct Cache<K> {
    objects: HashMap<Key, Arc<K>>,
    subscribers: Vec<mpsc::UnboundedSender<Delta<K>>>,
    synced: bool,
}

impl<K: Watched> Cache<K> {
    fn tell(&mut self, delta: &Delta<K>) {
        self.subscribers.retain(|subscriber| subscriber.send(delta.clone()).is_ok());
    }

    fn apply(&mut self, object: K) {
        let new = Arc::new(object);
        let delta = match self.objects.insert(key_of(&*new), new.clone()) {
            Some(old) if old.resource_version() == new.resource_version() => return,
            Some(old) => Delta::Updated { old, new },
            None => Delta::Added(new),
        };
        self.tell(&delta);
    }

    fn delete(&mut self, object: K) {
        if self.objects.remove(&key_of(&object)).is_some() {
            self.tell(&Delta::Deleted(Arc::new(object)));
        }
    }

    /// After a (re)list: what it did not name is gone.
    fn retain(&mut self, listed: &[Key]) {
        let listed: std::collections::HashSet<&Key> = listed.iter().collect();
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

fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn is_not_served(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

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
    fn start(api: Api<K>, config: watcher::Config) -> Self {
        let cache =
            Arc::new(Mutex::new(Cache { objects: HashMap::new(), subscribers: Vec::new(), synced: false }));
        let (synced_sender, synced) = watch::channel(false);
        let task_cache = cache.clone();
        tokio::spawn(async move {
            let mut events = watcher::watcher(api, config).default_backoff().boxed();
            let mut listed = Vec::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => listed.clear(),
                    Ok(Event::InitApply(object)) => {
                        listed.push(key_of(&object));
                        task_cache.lock().apply(object);
                    }
                    Ok(Event::InitDone) => {
                        task_cache.lock().retain(&std::mem::take(&mut listed));
                        synced_sender.send_replace(true);
                        debug!(kind = %K::kind(&()), "informer synced");
                    }
                    Ok(Event::Apply(object)) => task_cache.lock().apply(object),
                    Ok(Event::Delete(object)) => task_cache.lock().delete(object),
                    // Not served (any more), so there are none: whoever waits for all that exists has them.
                    Err(error) if is_not_served(&error) => {
                        debug!(kind = %K::kind(&()), "the API server does not serve this kind");
                        listed.clear();
                        task_cache.lock().retain(&[]);
                        synced_sender.send_replace(true);
                    }
                    Err(error) => warn!(kind = %K::kind(&()), %error, "watch failed, trying again"),
                }
            }
        });
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
        let informer = Informer::start(Api::all(self.client.clone()), config);
        running.insert(key, Box::new(informer.clone()));
        informer
    }
}
