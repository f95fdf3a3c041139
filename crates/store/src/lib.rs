//! Revisioned key-value store: get, range, conditional put and delete, watch from a revision, compact.
//!
//! Every change gets the next revision, a number that counts all changes of the store. A write is acknowledged only
//! once it is durable and every observer of this process has been told of it ([`Store::observe`]), so that who reads
//! what an observer keeps reads its own writes. Recent changes are in a log in memory that watches are served from
//! ([`log`]).
//!
//! Two engines do this, behind one handle and under the same tests: [`embedded`], a file of this process alone in which
//! writers share fsyncs, and [`etcd`], a cluster that several processes write to and that survives the loss of members.
//! Where others write too, what has been observed may lag behind; [`Store::settle`] waits until it does not.
//!
//! The store knows nothing of Kubernetes: keys begin with `/`, values are bytes. A [`Note`] may accompany a write, so
//! that the observer need not parse what the writer knew already.
//!
//! ```no_run
//! # async fn example() -> Result<(), store::Error> {
//! let store = store::Store::open("/var/lib/corten/state.redb".as_ref(), store::Options::default())?;
//! let written = store.put("/a", "1", store::Expect::Absent, None).await?;
//! assert_eq!(store.get(b"/a").await?.map(|entry| entry.modified), Some(written.revision));
//! # Ok(())
//! # }
//! ```

mod embedded;
mod error;
mod etcd;
mod feed;
mod log;
pub mod snapshot;
mod store;

pub use error::Error;
pub use etcd::EtcdOptions;
pub use log::Watch;
pub use store::{Options, Status, Store};

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

/// A number that counts every change of the store, beginning with 1.
pub type Revision = u64;

/// What a writer wants the observers of its write to know besides the bytes. Never stored.
pub type Note = Arc<dyn Any + Send + Sync>;

/// A key and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision that created the key.
    pub created: Revision,
    /// The revision that last changed it.
    pub modified: Revision,
}

/// What must be true of a key for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Absent,
    /// The key exists, last modified at this revision.
    Revision(Revision),
}

/// One change.
#[derive(Clone)]
pub struct Event {
    pub revision: Revision,
    pub key: Bytes,
    /// The new state; `None` when the key was deleted.
    pub entry: Option<Entry>,
    /// The state before; `None` when the key was created.
    pub previous: Option<Entry>,
    pub note: Option<Note>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("revision", &self.revision)
            .field("key", &self.key)
            .field("deleted", &self.entry.is_none())
            .finish_non_exhaustive()
    }
}

/// The answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The revision of this change; of a delete that found nothing, the store's current one.
    pub revision: Revision,
    /// The state before.
    pub previous: Option<Entry>,
}

/// A page of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub entries: Vec<Entry>,
    /// More follow after the last of `entries`.
    pub more: bool,
    /// The revision whose state this is.
    pub revision: Revision,
}

/// Follows the store: first everything there is, then every change. Called in order and one call at a time, before the
/// change is acknowledged to its writer: it must be quick.
pub trait Observer: Send + 'static {
    /// All that was known is forgotten: what [`Self::found`] tells until [`Self::loaded`] is the whole state. Happens
    /// once at the beginning, and again only where changes were missed.
    fn begin(&mut self);
    fn found(&mut self, entry: Entry);
    /// What was found is the state at `revision`.
    fn loaded(&mut self, revision: Revision);
    /// Changes, in order, all up to `revision`.
    fn changed(&mut self, events: &[Event], revision: Revision);
    /// The history up to and including `revision` is no longer wanted.
    fn compacted(&mut self, revision: Revision);
}
