//! Revisioned key-value store: get, range, conditional put and delete, watch from a revision, compact.
//!
//! Every change gets the next revision, a number that counts all changes of the store. A write is acknowledged only
//! once it is durable; writes that arrive while a commit is under way share the next one, so that a busy store pays
//! one fsync for many requests ([`writer`]). An acknowledged write has also been handed to every observer
//! ([`Store::observe`]) and is in the log of recent changes ([`log`]) that watches and reads at older revisions are
//! served from.
//!
//! The store knows nothing of Kubernetes: keys and values are bytes. A [`Note`] may accompany a write, so that the
//! observer need not parse what the writer knew already.
//!
//! ```no_run
//! # async fn example() -> Result<(), store::Error> {
//! let store = store::Store::open("/var/lib/corten/state.redb".as_ref(), store::Options::default())?;
//! let written = store.put("/a", "1", store::Expect::Absent, None).await?;
//! assert_eq!(store.get(b"/a")?.map(|entry| entry.modified), Some(written.revision));
//! # Ok(())
//! # }
//! ```

mod engine;
mod error;
mod log;
mod queue;
mod range;
mod redb;
mod store;
mod writer;

pub use error::Error;
pub use log::Watch;
pub use range::Range;
pub use store::{Options, Store};

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
