//! A kind as a controller sees it: what the watch has told, plus what this process has written since.
//!
//! A watch lags behind the writes of its own process, so a controller that counts pods in a plain cache right
//! after creating some would create them again. Upstream keeps "expectations" beside the cache to wait that out.
//! Here the answer of every write is put into the view at once ([`View::assume`]), and the watch event that
//! repeats it later is recognised by its resource version (which Kubernetes orders) and dropped. Reads are
//! therefore never older than this process's own writes, and nobody waits for an echo.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use client::{Delta, Informer, Informers, Watched};
use futures::FutureExt;
use kube::ResourceExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::key::Key;
use super::meta;

/// One change of a view. At least one side is present; both are when an object was changed.
pub struct Change<'a, K> {
    pub old: Option<&'a Arc<K>>,
    pub new: Option<&'a Arc<K>>,
}

impl<K> Change<'_, K> {
    /// The object as it is now, or as it was last.
    pub fn object(&self) -> Option<&Arc<K>> {
        self.new.or(self.old)
    }

    pub fn is_update(&self) -> bool {
        self.old.is_some() && self.new.is_some()
    }
}

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;
type IndexFn<K> = fn(&K) -> Option<String>;

/// Objects of one kind, indexed by namespace, controlling owner and (optionally) something of the kind's own.
pub struct View<K>(Arc<Inner<K>>);

impl<K> Clone for View<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<K> {
    client: kube::Client,
    informer: Informer<K>,
    state: RwLock<State<K>>,
    handlers: Mutex<Vec<Handler<K>>>,
    running: std::sync::OnceLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K: Watched> View<K> {
    pub fn new(informers: &Informers) -> Self {
        Self::with_index(informers, |_| None)
    }

    /// `index` gives the value by which [`View::by_index`] finds an object.
    pub fn with_index(informers: &Informers, index: IndexFn<K>) -> Self {
        Self::over(informers, informers.all(), index)
    }

    /// Only the objects that a field selector picks.
    pub fn of_fields(informers: &Informers, selector: &str) -> Self {
        Self::over(informers, informers.fields(selector), |_| None)
    }

    fn over(informers: &Informers, informer: Informer<K>, index: IndexFn<K>) -> Self {
        Self(Arc::new(Inner {
            client: informers.client(),
            informer,
            state: RwLock::new(State::new(index)),
            handlers: Mutex::default(),
            running: std::sync::OnceLock::new(),
            synced: watch::Sender::new(false),
        }))
    }

    /// Calls `handler` after each change. Handlers are registered before [`View::start`]; they must be quick:
    /// they mark keys as due.
    pub fn on(&self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.0.handlers.lock().push(Box::new(handler));
    }

    /// The client through which the kind is watched and written.
    pub fn client(&self) -> kube::Client {
        self.0.client.clone()
    }

    /// Starts following the watch, with the handlers registered so far.
    pub fn start(&self) {
        let handlers = std::mem::take(&mut *self.0.handlers.lock());
        if self.0.running.set(handlers).is_err() {
            return;
        }
        let inner = self.0.clone();
        let mut deltas = inner.informer.subscribe();
        let following = async move {
            while let Some(delta) = deltas.recv().await {
                match delta {
                    Delta::Added(new) | Delta::Updated { new, .. } => inner.observe(new),
                    Delta::Deleted(old) => inner.observe_deleted(&old),
                    Delta::Synced => {
                        inner.synced.send_replace(true);
                    }
                }
            }
        };
        // Boxed, as all tasks that there is a kind of for each kind of object.
        tokio::spawn(following.boxed());
    }

    /// Resolves once everything that existed at the start is in the view.
    pub async fn synced(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.0.synced.subscribe().wait_for(|synced| *synced).await;
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.by_key(&Key::new(namespace, name))
    }

    pub fn by_key(&self, key: &Key) -> Option<Arc<K>> {
        self.0.state.read().objects.get(key).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.state.read().objects.values().cloned().collect()
    }

    pub fn by_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.0.state.read();
        state.find(&state.namespaces, namespace)
    }

    /// The objects whose controlling owner has this UID.
    pub fn by_controller(&self, uid: &str) -> Vec<Arc<K>> {
        let state = self.0.state.read();
        state.find(&state.controllers, uid)
    }

    /// The objects of a namespace that no owner controls: what may be adopted.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.0.state.read();
        state.find(&state.controllers, &orphan_value(namespace))
    }

    pub fn by_index(&self, value: &str) -> Vec<Arc<K>> {
        let state = self.0.state.read();
        state.find(&state.extra, value)
    }

    /// Takes the API server's answer to a write into the view, ahead of the watch.
    pub fn assume(&self, object: K) -> Arc<K> {
        let object = Arc::new(object);
        self.0.assume(object.clone());
        object
    }

    /// The API server has answered that the object is gone.
    pub fn assume_deleted(&self, key: &Key, uid: &str) {
        let change = self.0.state.write().assume_deleted(key, uid);
        if let Some(old) = change {
            self.0.tell(Some(&old), None);
        }
    }
}

impl<K: Watched> Inner<K> {
    fn tell(&self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        let change = Change { old, new };
        for handler in self.running.get().into_iter().flatten() {
            handler(&change);
        }
    }

    fn observe(&self, new: Arc<K>) {
        let (changed, vanished) = {
            let mut state = self.state.write();
            let changed = state.observe(new.clone());
            let known = |key: &Key| self.informer.get(&key.namespace, &key.name).is_some();
            (changed, state.expire_assumed(known))
        };
        if let Observed::Changed(old) = changed {
            self.tell(old.as_ref(), Some(&new));
        }
        for old in vanished {
            self.tell(Some(&old), None);
        }
    }

    fn observe_deleted(&self, last: &Arc<K>) {
        let old = self.state.write().observe_deleted(last);
        if let Some(old) = old {
            self.tell(Some(&old), None);
        }
    }

    fn assume(&self, new: Arc<K>) {
        let changed = self.state.write().assume(new.clone());
        if let Observed::Changed(old) = changed {
            self.tell(old.as_ref(), Some(&new));
        }
    }
}

enum Observed<K> {
    /// Older than what is already known.
    Stale,
    /// Taken over; what it replaces, if anything.
    Changed(Option<Arc<K>>),
}

type IndexMap = HashMap<String, HashSet<Key>>;

/// The objects and their indexes, without any watch: the part that can be tested.
struct State<K> {
    objects: HashMap<Key, Arc<K>>,
    namespaces: IndexMap,
    controllers: IndexMap,
    extra: IndexMap,
    index: IndexFn<K>,
    /// UIDs that are known to be gone although the watch has not said so yet.
    tombstones: HashMap<Key, String>,
    /// Objects known from our own creation only, by revision.
    assumed: BTreeMap<u64, Key>,
    /// The newest revision that the watch has delivered.
    delivered: u64,
}

impl<K: Watched> State<K> {
    fn new(index: IndexFn<K>) -> Self {
        Self {
            objects: HashMap::new(),
            namespaces: HashMap::new(),
            controllers: HashMap::new(),
            extra: HashMap::new(),
            index,
            tombstones: HashMap::new(),
            assumed: BTreeMap::new(),
            delivered: 0,
        }
    }

    fn find(&self, index: &IndexMap, value: &str) -> Vec<Arc<K>> {
        let keys = index.get(value).into_iter().flatten();
        keys.filter_map(|key| self.objects.get(key).cloned()).collect()
    }

    fn observe(&mut self, new: Arc<K>) -> Observed<K> {
        let key = Key::of(&*new);
        let revision = meta::revision(&*new);
        self.delivered = self.delivered.max(revision);
        self.assumed.remove(&revision);
        if let Some(dead) = self.tombstones.get(&key) {
            if new.meta().uid.as_ref() == Some(dead) {
                return Observed::Stale;
            }
            self.tombstones.remove(&key);
        }
        if let Some(old) = self.objects.get(&key)
            && old.meta().uid == new.meta().uid
            && meta::revision(&**old) >= revision
        {
            return Observed::Stale;
        }
        Observed::Changed(self.insert(key, new))
    }

    fn observe_deleted(&mut self, last: &Arc<K>) -> Option<Arc<K>> {
        let key = Key::of(&**last);
        self.delivered = self.delivered.max(meta::revision(&**last));
        self.tombstones.remove(&key);
        let old = self.objects.get(&key)?;
        // A successor of the same name may already have been assumed.
        if old.meta().uid != last.meta().uid {
            return None;
        }
        self.remove(&key)
    }

    fn assume(&mut self, new: Arc<K>) -> Observed<K> {
        let key = Key::of(&*new);
        let revision = meta::revision(&*new);
        match self.objects.get(&key) {
            Some(old) if meta::revision(&**old) >= revision => return Observed::Stale,
            Some(_) => {}
            // The watch has been past this revision: it has told of the object, and of its end.
            None if revision <= self.delivered => return Observed::Stale,
            None if self.tombstones.get(&key) == new.meta().uid.as_ref() => return Observed::Stale,
            None => {
                self.assumed.insert(revision, key.clone());
            }
        }
        Observed::Changed(self.insert(key, new))
    }

    fn assume_deleted(&mut self, key: &Key, uid: &str) -> Option<Arc<K>> {
        let old = self.objects.get(key)?;
        if old.meta().uid.as_deref() != Some(uid) {
            return None;
        }
        self.tombstones.insert(key.clone(), uid.to_owned());
        self.remove(key)
    }

    /// Drops assumed objects that the watch has gone past without ever telling of them: they were deleted while
    /// it was broken.
    fn expire_assumed(&mut self, known: impl Fn(&Key) -> bool) -> Vec<Arc<K>> {
        let mut vanished = Vec::new();
        while let Some((&revision, _)) = self.assumed.first_key_value() {
            if revision >= self.delivered {
                break;
            }
            if let Some((_, key)) = self.assumed.pop_first()
                && !known(&key)
            {
                vanished.extend(self.remove(&key));
            }
        }
        vanished
    }

    fn insert(&mut self, key: Key, new: Arc<K>) -> Option<Arc<K>> {
        let old = self.objects.insert(key.clone(), new.clone());
        if let Some(old) = &old {
            self.unindex(&key, old);
        }
        add(&mut self.namespaces, key.namespace.clone(), &key);
        add(&mut self.controllers, controller_value(&*new), &key);
        if let Some(value) = (self.index)(&new) {
            add(&mut self.extra, value, &key);
        }
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        self.unindex(key, &old);
        Some(old)
    }

    fn unindex(&mut self, key: &Key, old: &Arc<K>) {
        take(&mut self.namespaces, &key.namespace, key);
        take(&mut self.controllers, &controller_value(&**old), key);
        if let Some(value) = (self.index)(old) {
            take(&mut self.extra, &value, key);
        }
    }
}

fn add<V: Hash + Eq>(index: &mut IndexMap, value: V, key: &Key)
where
    String: From<V>,
{
    index.entry(value.into()).or_default().insert(key.clone());
}

fn take(index: &mut IndexMap, value: &str, key: &Key) {
    if let Some(keys) = index.get_mut(value) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(value);
        }
    }
}

fn controller_value<K: Watched>(object: &K) -> String {
    match meta::controller_of(object.meta()) {
        Some(owner) => owner.uid.clone(),
        None => orphan_value(&object.namespace().unwrap_or_default()),
    }
}

/// UIDs hold no slash, so this cannot clash with one.
fn orphan_value(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str, revision: u64) -> Arc<Pod> {
        let value = json!({"metadata": {
            "namespace": "ns", "name": name, "uid": uid, "resourceVersion": revision.to_string(),
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "owner", "controller": true}],
        }});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn names(state: &State<Pod>) -> Vec<String> {
        let mut names: Vec<_> = state
            .find(&state.controllers, "owner")
            .iter()
            .map(|pod| format!("{}@{}", pod.name_any(), meta::revision(&**pod)))
            .collect();
        names.sort();
        assert_eq!(names.len(), state.objects.len(), "index and map agree");
        names
    }

    #[test]
    fn own_creation_is_seen_at_once_and_its_echo_is_stale() {
        let mut state = State::new(|_| None);
        assert!(matches!(state.assume(pod("a", "1", 5)), Observed::Changed(None)));
        assert_eq!(names(&state), ["a@5"]);
        assert!(matches!(state.observe(pod("a", "1", 5)), Observed::Stale));
        assert!(matches!(state.observe(pod("a", "1", 7)), Observed::Changed(Some(_))));
        assert_eq!(names(&state), ["a@7"]);
        assert!(matches!(state.assume(pod("a", "1", 6)), Observed::Stale));
    }

    #[test]
    fn answer_that_arrives_after_the_watch_told_of_the_end_is_stale() {
        let mut state = State::new(|_| None);
        state.observe(pod("a", "1", 5));
        assert!(state.observe_deleted(&pod("a", "1", 6)).is_some());
        assert!(matches!(state.assume(pod("a", "1", 5)), Observed::Stale));
        assert!(names(&state).is_empty());
    }

    #[test]
    fn own_deletion_hides_the_object_until_a_successor_comes() {
        let mut state = State::new(|_| None);
        state.observe(pod("a", "1", 5));
        assert!(state.assume_deleted(&Key::new("ns", "a"), "1").is_some());
        assert!(matches!(state.observe(pod("a", "1", 6)), Observed::Stale));
        assert!(state.observe_deleted(&pod("a", "1", 7)).is_none());
        assert!(state.tombstones.is_empty());
        assert!(matches!(state.observe(pod("a", "2", 8)), Observed::Changed(None)));
        assert!(state.assume_deleted(&Key::new("ns", "a"), "1").is_none());
        assert_eq!(names(&state), ["a@8"]);
    }

    #[test]
    fn late_end_of_a_predecessor_leaves_the_successor() {
        let mut state = State::new(|_| None);
        state.observe(pod("a", "1", 5));
        state.assume(pod("a", "2", 9));
        assert!(state.observe_deleted(&pod("a", "1", 8)).is_none());
        assert_eq!(names(&state), ["a@9"]);
    }

    #[test]
    fn creation_that_a_broken_watch_never_told_of_vanishes() {
        let mut state = State::new(|_| None);
        state.assume(pod("a", "1", 5));
        state.assume(pod("b", "2", 6));
        state.observe(pod("c", "3", 9));
        let vanished = state.expire_assumed(|key| key.name == "b");
        assert_eq!(vanished.len(), 1);
        assert_eq!(names(&state), ["b@6", "c@9"]);
    }
}
