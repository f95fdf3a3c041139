//! The handle that callers hold.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::engine::{Engine, Write};
use crate::log::{Log, Watch};
use crate::queue::{Queue, Sender};
use crate::range::{self, Range};
use crate::redb::RedbEngine;
use crate::writer::{self, Request};
use crate::{Entry, Error, Event, Expect, Note, Revision, Written};

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pages the engine may keep in memory. The API server reads from its own cache, so little is needed.
    pub cache_bytes: usize,
    /// Changes kept in memory for watches and reads at older revisions.
    pub recent_events: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 8 << 20, recent_events: 128 }
    }
}

type Observer = Box<dyn FnMut(&[Event], Revision) + Send>;

pub(crate) struct Inner {
    pub engine: Engine,
    pub log: Arc<Log>,
    observers: Mutex<Vec<Observer>>,
}

impl Inner {
    pub fn publish(&self, events: Vec<Event>, revision: Revision) {
        if events.is_empty() {
            return;
        }
        let mut observers = self.observers.lock();
        self.log.append(&events, revision);
        for observer in observers.iter_mut() {
            observer(&events, revision);
        }
    }
}

/// A store. Clones are handles of the same one; it closes when the last is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    requests: Sender<Request>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens the store in the file at `path`, making it if there is none. One process at a time.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let engine = Engine::Redb(RedbEngine::open(path, options.cache_bytes)?);
        Self::start(engine, options)
    }

    /// A store that is gone when dropped.
    pub fn in_memory() -> Result<Self, Error> {
        Self::start(Engine::Redb(RedbEngine::in_memory()?), Options::default())
    }

    fn start(engine: Engine, options: Options) -> Result<Self, Error> {
        let log = Arc::new(Log::new(engine.revision()?, options.recent_events));
        let inner = Arc::new(Inner { engine, log, observers: Mutex::default() });
        let (requests, queue) = Queue::new();
        let for_writer = inner.clone();
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(for_writer, queue))
            .map_err(|error| Error::Thread(Arc::new(error)))?;
        let writer = Arc::new(Mutex::new(Some(writer)));
        Ok(Self { inner, requests, writer })
    }

    /// Waits until the last write is done and the file is closed; blocks while there are other handles.
    pub fn close(self) {
        let Self { inner, requests, writer } = self;
        let writer = writer.lock().take();
        drop((inner, requests));
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the store's writer had panicked");
        }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.inner.log.revision()
    }

    /// Whether the writer is gone: no write can succeed any more.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Sets `key` to `value`; durable when this returns.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        expect: Expect,
        note: Option<Note>,
    ) -> Result<Written, Error> {
        self.write(Write { key: key.into(), value: Some(value.into()), expect, note }).await
    }

    /// Removes `key`; durable when this returns. Removing what is not there is no error.
    pub async fn delete(
        &self,
        key: impl Into<Bytes>,
        expect: Expect,
        note: Option<Note>,
    ) -> Result<Written, Error> {
        self.write(Write { key: key.into(), value: None, expect, note }).await
    }

    async fn write(&self, write: Write) -> Result<Written, Error> {
        debug_assert!(!write.key.is_empty(), "keys are not empty");
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { write, answer }).map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        self.inner.engine.get(key)
    }

    /// Up to `limit` entries whose keys begin with `prefix` and come after `after`, as of now or of the revision
    /// `at`.
    pub fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, Error> {
        range::read(&self.inner, prefix, after, limit, at)
    }

    /// Changes after revision `from` of keys that begin with `prefix`.
    pub fn watch(&self, prefix: impl Into<Bytes>, from: Revision) -> Result<Watch, Error> {
        self.inner.log.watch(prefix.into(), from)
    }

    /// Visits every entry with `prefix`, then calls `observer` with every change that follows, on the writer's thread
    /// and before the change is acknowledged: it must be quick. Returns the revision of the visited state.
    pub fn observe(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(Entry),
        observer: impl FnMut(&[Event], Revision) + Send + 'static,
    ) -> Result<Revision, Error> {
        // While this lock is held nothing is published. A commit that is already durable is part of the scan and
        // published again after it: observers are told the revision, and `seen` drops what the scan had.
        let mut observers = self.inner.observers.lock();
        let seen = self.inner.engine.scan(prefix, None, &mut |entry| {
            visit(entry);
            true
        })?;
        let mut observer = observer;
        let prefix = Bytes::copy_from_slice(prefix);
        observers.push(Box::new(move |events, revision| {
            if revision <= seen {
                return;
            }
            let first = events.partition_point(|event| event.revision <= seen);
            let events = events.get(first..).unwrap_or_default();
            if prefix.is_empty() || events.iter().all(|event| event.key.starts_with(&prefix)) {
                observer(events, revision);
            } else {
                let wanted = |event: &&Event| event.key.starts_with(&prefix);
                observer(&events.iter().filter(wanted).cloned().collect::<Vec<_>>(), revision);
            }
        }));
        Ok(seen)
    }

    /// Forgets the changes up to and including `revision`: watches from before it, and reads at revisions before it,
    /// are [`Error::Compacted`] from now on.
    pub fn compact(&self, revision: Revision) -> Result<(), Error> {
        let current = self.revision();
        if revision > current {
            return Err(Error::Future { requested: revision, current });
        }
        self.inner.log.compact(revision);
        Ok(())
    }
}
