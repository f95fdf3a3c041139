//! ConfigMaps and Secrets that pods of this node refer to, each watched by name for as long as some pod needs it.
//!
//! By name and not by kind, because that is all that a node is allowed to see, and all that it should keep in
//! memory.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use client::Watched;
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

#[derive(Clone, Debug)]
enum State<K> {
    Unknown,
    Unreachable(String),
    Absent,
    Present(Arc<K>),
}

/// One watched object; the watch ends with the last holder.
struct Entry<K> {
    state: watch::Receiver<State<K>>,
    _task: AbortOnDropHandle<()>,
}

type Key = (String, String);

struct Cache<K> {
    client: kube::Client,
    entries: Mutex<HashMap<Key, Weak<Entry<K>>>>,
}

impl<K> Cache<K>
where
    K: Watched + kube::Resource<Scope = NamespaceResourceScope>,
{
    fn new(client: kube::Client) -> Self {
        Self { client, entries: Mutex::default() }
    }

    fn entry(&self, namespace: &str, name: &str) -> Arc<Entry<K>> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(&key).and_then(Weak::upgrade) {
            return entry;
        }
        entries.retain(|_, entry| entry.strong_count() > 0);
        let (sender, state) = watch::channel(State::Unknown);
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let name = name.to_owned();
        let task = tokio::spawn(async move {
            let mut changes = watcher::watch_object(api, &name).default_backoff().boxed();
            while let Some(change) = changes.next().await {
                match change {
                    Ok(Some(object)) => drop(sender.send_replace(State::Present(Arc::new(object)))),
                    Ok(None) => drop(sender.send_replace(State::Absent)),
                    // What is known stays good until there is something better.
                    Err(error) => {
                        sender.send_if_modified(|state| match state {
                            State::Unknown | State::Unreachable(_) => {
                                *state = State::Unreachable(error.to_string());
                                true
                            }
                            State::Absent | State::Present(_) => false,
                        });
                    }
                }
            }
        });
        let entry = Arc::new(Entry { state, _task: AbortOnDropHandle::new(task) });
        entries.insert(key, Arc::downgrade(&entry));
        entry
    }
}

impl<K> Entry<K> {
    async fn get(&self) -> Result<Option<Arc<K>>, String> {
        let mut state = self.state.clone();
        let known = state.wait_for(|state| !matches!(state, State::Unknown)).await;
        match known.as_deref() {
            Ok(State::Present(object)) => Ok(Some(object.clone())),
            Ok(State::Absent) => Ok(None),
            Ok(State::Unreachable(error)) => Err(error.clone()),
            Ok(State::Unknown) | Err(_) => Err("the watch has ended".into()),
        }
    }
}

/// The caches of a node.
pub struct Objects {
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
}

impl Objects {
    pub fn new(client: kube::Client) -> Self {
        Self { config_maps: Cache::new(client.clone()), secrets: Cache::new(client) }
    }
}

type Held<K> = Mutex<HashMap<String, (Arc<Entry<K>>, AbortOnDropHandle<()>)>>;

/// The objects that one pod has asked for so far; held, and watched for changes, until this is dropped.
pub struct PodObjects {
    objects: Arc<Objects>,
    namespace: String,
    config_maps: Held<ConfigMap>,
    secrets: Held<Secret>,
    changed: Arc<Notify>,
}

impl PodObjects {
    pub fn new(objects: Arc<Objects>, namespace: &str) -> Self {
        Self {
            objects,
            namespace: namespace.to_owned(),
            config_maps: Mutex::default(),
            secrets: Mutex::default(),
            changed: Arc::default(),
        }
    }

    /// Resolves when something that was asked for has changed since.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub async fn config_map(&self, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        let entry = hold(&self.config_maps, name, &self.changed, || {
            self.objects.config_maps.entry(&self.namespace, name)
        });
        entry.get().await
    }

    pub async fn secret(&self, name: &str) -> Result<Option<Arc<Secret>>, String> {
        let entry =
            hold(&self.secrets, name, &self.changed, || self.objects.secrets.entry(&self.namespace, name));
        entry.get().await
    }
}

fn hold<K: Send + Sync + 'static>(
    held: &Held<K>,
    name: &str,
    changed: &Arc<Notify>,
    entry: impl FnOnce() -> Arc<Entry<K>>,
) -> Arc<Entry<K>> {
    let mut held = held.lock();
    if let Some((entry, _)) = held.get(name) {
        return entry.clone();
    }
    let entry = entry();
    let mut state = entry.state.clone();
    let changed = changed.clone();
    let follower = tokio::spawn(async move {
        // The first answer is an answer, not a change.
        if state.wait_for(|state| !matches!(state, State::Unknown)).await.is_err() {
            return;
        }
        state.mark_unchanged();
        while state.changed().await.is_ok() {
            changed.notify_one();
        }
    });
    held.insert(name.to_owned(), (entry.clone(), AbortOnDropHandle::new(follower)));
    entry
}
