//! The handle that callers hold, whichever engine is behind it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::embedded::{Embedded, Write};
use crate::etcd::{Etcd, EtcdOptions};
use crate::feed::Feed;
use crate::log::Watch;
use crate::snapshot::Summary;
use crate::{Entry, Error, Expect, Note, Observer, Range, Revision, Written};

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pages the embedded engine may keep in memory. The API server reads from its own cache, so little is needed.
    pub cache_bytes: usize,
    /// Changes kept in memory for watches and reads at older revisions.
    pub recent_events: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 8 << 20, recent_events: 128 }
    }
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub revision: Revision,
    pub keys: u64,
    /// Bytes of the entries.
    pub stored: u64,
    /// Bytes of the file that hold something; what the file has beyond them, defragmenting gives back.
    pub allocated: u64,
}

/// A store. Clones are handles of the same one; it closes when the last is dropped.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
    feed: Arc<Feed>,
}

#[derive(Clone)]
enum Engine {
    Embedded(Embedded),
    Etcd(Arc<Etcd>),
}

impl Store {
    /// Opens the store in the file at `path`, making it if there is none. One process at a time.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let (engine, feed) = Embedded::open(path, &options)?;
        Ok(Self { engine: Engine::Embedded(engine), feed })
    }

    /// A store that is gone when dropped.
    pub fn in_memory() -> Result<Self, Error> {
        let (engine, feed) = Embedded::in_memory()?;
        Ok(Self { engine: Engine::Embedded(engine), feed })
    }

    /// The store that an etcd cluster keeps. Others may use it too.
    pub async fn connect(etcd: EtcdOptions, options: Options) -> Result<Self, Error> {
        let (engine, feed) = Etcd::connect(etcd, &options).await?;
        Ok(Self { engine: Engine::Etcd(engine), feed })
    }

    /// Waits until the last write is done and the file is closed; blocks while there are other handles.
    pub fn close(self) {
        match self.engine {
            Engine::Embedded(engine) => {
                drop(self.feed);
                engine.close();
            }
            // Nothing of it is here.
            Engine::Etcd(_) => {}
        }
    }

    /// The revision of the last change that this process knows of.
    pub fn revision(&self) -> Revision {
        self.feed.log.revision()
    }

    /// Whether others write to the same store, so that this process may be behind: see [`Self::settle`].
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Etcd(_))
    }

    /// Whether writes can succeed now.
    pub async fn check(&self) -> Result<(), Error> {
        match &self.engine {
            Engine::Embedded(engine) if engine.is_closed() => Err(Error::Closed),
            Engine::Embedded(_) => Ok(()),
            Engine::Etcd(engine) => engine.check().await,
        }
    }

    /// Resolves when every change that anyone had made before the call has been told to the observers.
    pub async fn settle(&self) -> Result<Revision, Error> {
        match &self.engine {
            Engine::Embedded(_) => Ok(self.revision()),
            Engine::Etcd(engine) => engine.settle().await,
        }
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
        match &self.engine {
            Engine::Embedded(engine) => engine.write(write).await,
            Engine::Etcd(engine) => engine.write(write).await,
        }
    }

    pub async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        match &self.engine {
            Engine::Embedded(engine) => engine.get(key),
            Engine::Etcd(engine) => engine.get(key).await,
        }
    }

    /// Up to `limit` entries whose keys begin with `prefix` and come after `after`, as of now or of the revision
    /// `at`.
    pub async fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, Error> {
        match &self.engine {
            Engine::Embedded(engine) => engine.range(prefix, after, limit, at),
            Engine::Etcd(engine) => engine.range(prefix, after, limit, at).await,
        }
    }

    /// Changes after revision `from` of keys that begin with `prefix`.
    pub fn watch(&self, prefix: impl Into<Bytes>, from: Revision) -> Result<Watch, Error> {
        self.feed.log.watch(prefix.into(), from)
    }

    /// Lets `observer` load every entry with `prefix`, and follow from there. Returns the revision of what it loaded.
    pub async fn observe(&self, prefix: &[u8], observer: impl Observer) -> Result<Revision, Error> {
        let mut observer: Box<dyn Observer> = Box::new(observer);
        loop {
            let joining = self.feed.joining(prefix);
            observer.begin();
            let seen = match &self.engine {
                Engine::Embedded(engine) => engine.load(prefix, |entry| observer.found(entry))?,
                Engine::Etcd(engine) => engine.load(prefix, &mut |entry| observer.found(entry)).await?,
            };
            observer.loaded(seen);
            match joining.join(observer, seen) {
                Ok(()) => return Ok(seen),
                Err(again) => observer = again,
            }
        }
    }

    /// Forgets the changes up to and including `revision`: watches from before it, and reads at revisions before it,
    /// are [`Error::Compacted`] from now on.
    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let current = self.settle().await?;
        if revision > current {
            return Err(Error::Future { requested: revision, current });
        }
        if let Engine::Etcd(engine) = &self.engine {
            engine.compact(revision).await?;
        }
        self.feed.compact(revision);
        Ok(())
    }

    /// Gives unused room in the file back. Writers and readers of the file wait meanwhile. Blocks.
    pub fn defragment(&self) -> Result<(), Error> {
        match &self.engine {
            Engine::Embedded(engine) => engine.defragment(),
            Engine::Etcd(_) => Err(Error::Elsewhere { remedy: "use etcdctl defrag, one member at a time" }),
        }
    }

    /// Bytes that the store takes on disk: of the embedded one its file's, of etcd's the database of each member that
    /// tells, in the order in which they are configured. Nothing of a member that does not answer within a moment.
    pub async fn sizes(&self) -> Vec<Option<u64>> {
        match &self.engine {
            Engine::Embedded(engine) => vec![engine.file_size()],
            Engine::Etcd(engine) => engine.sizes().await,
        }
    }

    /// Blocks.
    pub fn status(&self) -> Result<Status, Error> {
        match &self.engine {
            Engine::Embedded(engine) => {
                let layout = engine.layout()?;
                Ok(Status {
                    revision: self.revision(),
                    keys: layout.keys,
                    stored: layout.stored,
                    allocated: layout.allocated,
                })
            }
            Engine::Etcd(_) => Err(Error::Elsewhere { remedy: "use etcdctl endpoint status" }),
        }
    }

    /// Writes the state of one moment to `out`, while the store goes on. Blocks.
    pub fn save(&self, out: &mut impl std::io::Write) -> Result<Summary, Error> {
        let Engine::Embedded(engine) = &self.engine else {
            return Err(Error::Elsewhere { remedy: "use etcdctl snapshot save" });
        };
        let mut out = std::io::BufWriter::with_capacity(1 << 20, out);
        engine.save(&mut out)
    }
}
