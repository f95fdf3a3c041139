//! All objects of one resource, and the log of their recent changes.
//!
//! Readers take a read lock for as long as it takes to clone some `Arc`s. A watcher has no queue: it remembers the
//! revision it has reached and reads on from the log when woken. The log is bounded by count and bytes; who falls out
//! of it is told to list again.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use store::Revision;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::event::{Change, Event};
use super::feed::Feeds;
use super::object::{Key, Object};
use super::wake::Wake;

/// At most so many events, and at most so many bytes of them, are remembered...
const MAX_EVENTS: usize = 4096;
const MAX_BYTES: usize = 8 << 20;
/// ...but this many whatever their size.
const MIN_EVENTS: usize = 64;
/// Of those from before a compaction so many are left, for watches that begin again.
const MIN_OLD_EVENTS: usize = 100;
/// Events that watchers are likely to be sent yet.
const NEW_EVENTS: usize = 128;

/// A revision that is no longer remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    pub requested: Revision,
    pub oldest: Revision,
}

pub struct ResourceCache {
    state: RwLock<State>,
    /// The revision of the last change of this resource.
    revision: AtomicU64,
    /// How often everything was loaded again: what was told before has nothing to do with what is there since.
    resets: AtomicU64,
    ended: AtomicU64,
    wake: Wake,
    pub feeds: Feeds,
}

struct State {
    objects: BTreeMap<Key, Arc<Object>>,
    events: VecDeque<Arc<Event>>,
    weight: usize,
    /// Every change after this revision is in `events`.
    since: Revision,
    /// Nothing is told of states before this revision, be they known or not.
    compacted: Revision,
    /// The revision of the last change.
    revision: Revision,
}

impl ResourceCache {
    /// An empty cache that knows all changes after `since`.
    pub fn new(since: Revision, runtime: Handle) -> Self {
        Self {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                events: VecDeque::new(),
                weight: 0,
                since,
                compacted: 0,
                revision: since,
            }),
            revision: AtomicU64::new(since),
            resets: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            wake: Wake::new(since, runtime),
            feeds: Feeds::default(),
        }
    }

    /// Replaces everything by the state at `revision`, of which no history is known.
    pub fn reset(&self, objects: BTreeMap<Key, Arc<Object>>, revision: Revision) {
        let mut state = self.state.write();
        let before = std::mem::replace(
            &mut *state,
            State { objects, events: VecDeque::new(), weight: 0, since: revision, compacted: 0, revision },
        );
        self.feeds.clear();
        self.resets.fetch_add(1, Ordering::AcqRel);
        self.revision.store(revision, Ordering::Release);
        drop(state);
        self.wake.changed(revision);
        // Freeing it may take a while.
        drop(before);
    }

    /// Lists of states before `revision` are refused from now on, and most of the events that led up to it forgotten.
    /// Those who watch are not disturbed: they are further, or nothing has happened since they began.
    pub fn compact(&self, revision: Revision) {
        let mut state = self.state.write();
        state.compacted = state.compacted.max(revision);
        while state.events.len() > MIN_OLD_EVENTS
            && state.events.front().is_some_and(|oldest| oldest.revision <= revision)
        {
            state.forget_oldest();
        }
    }

    /// Replaces objects that are still at the revision that these have: they look different now, and nothing has
    /// happened to them.
    pub fn rewrite(&self, objects: Vec<Arc<Object>>) {
        let mut state = self.state.write();
        for object in objects {
            if let Some(known) =
                state.objects.get_mut(&object.key).filter(|known| known.revision == object.revision)
            {
                *known = object;
            }
        }
    }

    /// Ends all watches that there are.
    pub fn end_watches(&self) {
        self.ended.fetch_add(1, Ordering::AcqRel);
        self.wake.changed(self.revision());
    }

    /// How often watches were ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Changes whenever everything was loaded again.
    pub fn resets(&self) -> u64 {
        self.resets.load(Ordering::Acquire)
    }

    /// A new state of an object.
    pub fn put(&self, object: Object) {
        let object = Arc::new(object);
        let revision = object.revision;
        let mut state = self.state.write();
        let previous = state.objects.insert(object.key.clone(), object.clone());
        let change = if previous.is_some() { Change::Modified } else { Change::Added };
        state.log(Event::new(change, object, previous));
        self.revision.store(revision, Ordering::Release);
        drop(state);
        self.wake.changed(revision);
    }

    /// An object is gone.
    pub fn remove(&self, key: &str, revision: Revision) {
        let mut state = self.state.write();
        let Some(previous) = state.objects.remove(key) else {
            return;
        };
        state.log(Event::new(Change::Deleted, Arc::new(previous.at(revision)), Some(previous)));
        self.revision.store(revision, Ordering::Release);
        drop(state);
        self.wake.changed(revision);
    }

    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The revision of the last change: as long as it stays, so does everything computed from the objects.
    pub fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// Wakes soon after every change; the value is no more than a sign.
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.wake.subscribe()
    }

    /// Objects of a namespace (of all, when empty) in order from `start` on, as long as `visit` wants more. Returns
    /// the revision of the state that was visited.
    pub fn scan(
        &self,
        namespace: &str,
        start: &str,
        mut visit: impl FnMut(&Arc<Object>) -> bool,
    ) -> Revision {
        let state = self.state.read();
        for object in state.range(namespace, start) {
            if !visit(object) {
                break;
            }
        }
        state.revision
    }

    /// As [`Self::scan`], of the state at revision `at`, from `start` on (inclusive).
    pub fn scan_at(
        &self,
        namespace: &str,
        start: &str,
        at: Revision,
        mut visit: impl FnMut(&Arc<Object>) -> bool,
    ) -> Result<(), TooOld> {
        let state = self.state.read();
        if at < state.compacted {
            return Err(TooOld { requested: at, oldest: state.compacted });
        }
        if at >= state.revision {
            for object in state.range(namespace, start) {
                if !visit(object) {
                    break;
                }
            }
            return Ok(());
        }
        // What has changed since is undone on the way: the oldest later event of a key knows its state at `at`.
        let mut undone: BTreeMap<&str, Option<&Arc<Object>>> = BTreeMap::new();
        for event in state.after(at)?.rev() {
            undone.insert(&event.object.key, event.previous.as_ref());
        }
        let prefix = Prefix::of(namespace);
        let mut undone = undone.into_iter().filter(|(key, _)| prefix.holds(key) && *key >= start).peekable();
        let mut now = state.range(namespace, start).peekable();
        loop {
            let next = match (now.peek(), undone.peek()) {
                (None, None) => return Ok(()),
                (Some(object), Some((key, _))) if *object.key < **key => now.next(),
                (Some(_), None) => now.next(),
                (object, Some((key, _))) => {
                    if object.is_some_and(|object| *object.key == **key) {
                        now.next();
                    }
                    undone.next().and_then(|(_, previous)| previous)
                }
            };
            if let Some(object) = next
                && !visit(object)
            {
                return Ok(());
            }
        }
    }

    /// The revision of the first event after `revision`.
    pub fn first_after(&self, revision: Revision) -> Result<Option<Revision>, TooOld> {
        Ok(self.state.read().after(revision)?.next().map(|event| event.revision))
    }

    /// About `limit` events after `revision`, oldest first: those of one revision stay together.
    pub fn events_after(&self, revision: Revision, limit: usize) -> Result<Vec<Arc<Event>>, TooOld> {
        let state = self.state.read();
        let mut found: Vec<Arc<Event>> = Vec::new();
        for event in state.after(revision)? {
            if found.len() >= limit && found.last().is_none_or(|last| last.revision != event.revision) {
                break;
            }
            found.push(event.clone());
        }
        Ok(found)
    }

    /// Whether something has become of the object of that key after `revision`. Yes where that is not known any more.
    pub fn has_changed(&self, key: &str, revision: Revision) -> bool {
        let state = self.state.read();
        if state.objects.get(key).is_some_and(|object| object.revision > revision) {
            return true;
        }
        state.after(revision).map_or(true, |mut later| later.any(|event| *event.object.key == *key))
    }

    /// Whether a watch from `revision` is possible.
    pub fn remembers(&self, revision: Revision) -> Result<(), TooOld> {
        self.state.read().after(revision).map(drop)
    }
}

impl State {
    fn log(&mut self, event: Event) {
        self.revision = event.revision;
        self.weight += event.weight();
        self.events.push_back(Arc::new(event));
        if let Some(old) = self.events.len().checked_sub(NEW_EVENTS) {
            self.events[old].forget_frames();
        }
        while self.events.len() > MAX_EVENTS || (self.weight > MAX_BYTES && self.events.len() > MIN_EVENTS) {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest revision, of which there may be several events.
    fn forget_oldest(&mut self) {
        let Some(oldest) = self.events.front().map(|oldest| oldest.revision) else { return };
        while let Some(event) = self.events.pop_front_if(|event| event.revision == oldest) {
            self.weight = self.weight.saturating_sub(event.weight());
        }
        self.since = oldest;
    }

    fn after(&self, revision: Revision) -> Result<impl DoubleEndedIterator<Item = &Arc<Event>>, TooOld> {
        if revision < self.since {
            return Err(TooOld { requested: revision, oldest: self.since });
        }
        let start = self.events.partition_point(|event| event.revision <= revision);
        Ok(self.events.range(start..))
    }

    fn range<'a>(&'a self, namespace: &str, start: &str) -> impl Iterator<Item = &'a Arc<Object>> {
        let prefix = Prefix::of(namespace);
        let from = if *start > *prefix.0 { start.to_owned() } else { prefix.0.clone() };
        self.objects
            .range::<str, _>((Bound::Included(from.as_str()), Bound::Unbounded))
            .map(|(_, object)| object)
            .take_while(move |object| prefix.holds(&object.key))
    }
}

/// `<namespace>/`, or nothing for all namespaces.
struct Prefix(String);

impl Prefix {
    fn of(namespace: &str) -> Self {
        Self(if namespace.is_empty() { String::new() } else { format!("{namespace}/") })
    }

    fn holds(&self, key: &str) -> bool {
        key.starts_with(&self.0)
    }
}
