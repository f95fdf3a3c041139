//! What an engine must do: keep entries durably, apply a batch of writes at once.

use bytes::Bytes;

use crate::redb::RedbEngine;
use crate::{Entry, Error, Event, Expect, Note, Revision, Written};

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

/// The engines. A new one joins here.
pub(crate) enum Engine {
    Redb(RedbEngine),
}

impl Engine {
    /// Makes the writes whose expectations hold durable, all at once. An error means that none of them happened.
    pub fn apply(&self, writes: Vec<Write>, revision: Revision) -> Result<Applied, Error> {
        match self {
            Self::Redb(engine) => engine.apply(writes, revision),
        }
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        match self {
            Self::Redb(engine) => engine.get(key),
        }
    }

    /// Entries whose keys begin with `prefix` and come after `after`, in order, until `visit` says stop.
    /// Returns the revision of the state that was visited.
    pub fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<Revision, Error> {
        match self {
            Self::Redb(engine) => engine.scan(prefix, after, visit),
        }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Result<Revision, Error> {
        match self {
            Self::Redb(engine) => engine.revision(),
        }
    }
}
