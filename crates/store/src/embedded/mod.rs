//! The embedded engine: a redb file that belongs to this process alone.
//!
//! One thread commits ([`writer`]); what arrives while a commit is under way shares the next one and its fsync.
//! Reads go to the file ([`engine`]); reads at an older revision undo what the log knows has happened since ([`range`]).

mod engine;
mod queue;
mod range;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

pub(crate) use engine::{Layout, RedbEngine, Scanned};
use queue::{Queue, Sender};
use writer::Request;

use crate::feed::Feed;
use crate::snapshot::{self, Summary};
use crate::{Entry, Error, Event, Expect, Note, Options, Range, Revision, Written};

/// One conditional change of one key.
pub(crate) struct Write {
    pub key: Bytes,
    /// `None` deletes.
    pub value: Option<Bytes>,
    pub expect: Expect,
    pub note: Option<Note>,
}

/// What became of a batch: an answer per write, and the changes in order.
pub(crate) struct Applied {
    pub answers: Vec<Result<Written, Error>>,
    pub events: Vec<Event>,
    pub revision: Revision,
}

/// What the writer's thread shares with the handles.
pub(crate) struct Shared {
    pub engine: RedbEngine,
    pub feed: Arc<Feed>,
    maintenance: Mutex<()>,
}

#[derive(Clone)]
pub(crate) struct Embedded {
    shared: Arc<Shared>,
    requests: Sender<Request>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Embedded {
    pub fn open(path: &Path, options: &Options) -> Result<(Self, Arc<Feed>), Error> {
        Self::start(RedbEngine::open(path, options.cache_bytes)?, options)
    }

    pub fn in_memory() -> Result<(Self, Arc<Feed>), Error> {
        Self::start(RedbEngine::in_memory()?, &Options::default())
    }

    fn start(engine: RedbEngine, options: &Options) -> Result<(Self, Arc<Feed>), Error> {
        let feed = Arc::new(Feed::new(engine.revision()?, options.recent_events));
        let shared = Arc::new(Shared { engine, feed: feed.clone(), maintenance: Mutex::new(()) });
        let (requests, queue) = Queue::new();
        let for_writer = shared.clone();
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(for_writer, queue))
            .map_err(|error| Error::Thread(Arc::new(error)))?;
        Ok((Self { shared, requests, writer: Arc::new(Mutex::new(Some(writer))) }, feed))
    }

    /// Waits until the last write is done and the file is closed; blocks while there are other handles.
    pub fn close(self) {
        let Self { shared, requests, writer } = self;
        let writer = writer.lock().take();
        drop((shared, requests));
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the store's writer had panicked");
        }
    }

    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    pub async fn write(&self, write: Write) -> Result<Written, Error> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { write, answer }).map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        self.shared.engine.get(key)
    }

    pub fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, Error> {
        range::read(&self.shared, prefix, after, limit, at)
    }

    /// Visits every entry with `prefix`; returns the revision of the state that was visited.
    pub fn load(&self, prefix: &[u8], mut found: impl FnMut(Entry)) -> Result<Revision, Error> {
        let mut revision = 0;
        self.shared.engine.scan(prefix, None, &mut |scanned| {
            match scanned {
                Scanned::State(at) => revision = at,
                Scanned::Entry(entry) => found(entry),
            }
            true
        })?;
        Ok(revision)
    }

    /// Writes a snapshot of the state of one moment.
    pub fn save(&self, out: &mut dyn std::io::Write) -> Result<Summary, Error> {
        let _maintenance = self.maintenance()?;
        let mut out = Some(out);
        let mut writer = None;
        let mut failure = None;
        self.shared.engine.scan(&[], None, &mut |scanned| {
            let written = match (scanned, &mut writer) {
                (Scanned::State(revision), _) => match out.take() {
                    Some(out) => snapshot::Writer::begin(out, revision).map(|begun| writer = Some(begun)),
                    None => Ok(()),
                },
                (Scanned::Entry(entry), Some(writer)) => writer.entry(&entry),
                // The state comes first.
                (Scanned::Entry(_), None) => Ok(()),
            };
            failure = written.err();
            failure.is_none()
        })?;
        match (failure, writer) {
            (None, Some(writer)) => writer.finish().map_err(Error::snapshot("write")),
            (Some(failure), _) => Err(Error::snapshot("write")(failure)),
            (None, None) => Err(Error::Closed),
        }
    }

    /// Work on the whole file, one at a time: a snapshot that its reader takes slowly must not meet a
    /// defragmentation that keeps everybody waiting for it.
    fn maintenance(&self) -> Result<MutexGuard<'_, ()>, Error> {
        self.shared.maintenance.try_lock().ok_or(Error::Busy)
    }

    pub fn file_size(&self) -> Option<u64> {
        self.shared.engine.file_size()
    }

    pub fn layout(&self) -> Result<Layout, Error> {
        self.shared.engine.layout()
    }

    pub fn defragment(&self) -> Result<(), Error> {
        let _maintenance = self.maintenance()?;
        self.shared.engine.defragment()
    }
}
