//! The log of recent changes, in memory: what watches and reads at older revisions are served from.
//!
//! A watch holds no queue of its own, only the revision it has reached; it reads on from the shared log when woken. So
//! a slow watcher costs nothing and delays nobody: when the log has moved past it, it is told
//! [`Error::Compacted`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{Error, Event, Revision};

pub(crate) struct Log {
    events: RwLock<Recent>,
    head: watch::Sender<Revision>,
    capacity: usize,
}

struct Recent {
    events: VecDeque<Event>,
    /// Every change after this one is in `events`.
    since: Revision,
}

impl Log {
    pub fn new(revision: Revision, capacity: usize) -> Self {
        Self {
            events: RwLock::new(Recent { events: VecDeque::new(), since: revision }),
            head: watch::Sender::new(revision),
            capacity,
        }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        *self.head.borrow()
    }

    /// Changes after this revision are known.
    pub fn since(&self) -> Revision {
        self.events.read().since
    }

    pub fn append(&self, events: &[Event], revision: Revision) {
        let mut recent = self.events.write();
        for event in events {
            // Notes are for observers; the log outlives them.
            recent.events.push_back(Event { note: None, ..event.clone() });
        }
        while recent.events.len() > self.capacity
            && let Some(oldest) = recent.events.pop_front()
        {
            recent.since = oldest.revision;
        }
        // A revision is remembered as a whole or not at all.
        while recent.events.front().is_some_and(|first| first.revision == recent.since) {
            recent.events.pop_front();
        }
        drop(recent);
        self.head.send_replace(revision);
    }

    /// Forgets changes up to and including `revision`.
    pub fn compact(&self, revision: Revision) {
        let mut recent = self.events.write();
        let keep = recent.events.partition_point(|event| event.revision <= revision);
        recent.events.drain(..keep);
        recent.since = recent.since.max(revision);
    }

    /// The state at `revision` has nothing to do with what was known.
    pub fn reset(&self, revision: Revision) {
        let mut recent = self.events.write();
        recent.events.clear();
        recent.since = revision;
        drop(recent);
        self.head.send_replace(revision);
    }

    /// About `limit` changes (a revision is not divided) after `revision` of keys with `prefix`, and the revision they reach.
    pub fn after(
        &self,
        revision: Revision,
        prefix: &[u8],
        limit: usize,
    ) -> Result<(Vec<Event>, Revision), Error> {
        let recent = self.events.read();
        if revision < recent.since {
            return Err(Error::Compacted { requested: revision, oldest: recent.since });
        }
        let start = recent.events.partition_point(|event| event.revision <= revision);
        let mut reached = revision;
        let mut found = Vec::new();
        for event in recent.events.range(start..) {
            if found.len() >= limit && event.revision != reached {
                break;
            }
            reached = event.revision;
            if event.key.starts_with(prefix) {
                found.push(event.clone());
            }
        }
        Ok((found, reached))
    }

    pub fn watch(self: &Arc<Self>, prefix: Bytes, from: Revision) -> Result<Watch, Error> {
        self.after(from, &prefix, 0)?;
        Ok(Watch { head: self.head.subscribe(), log: self.clone(), prefix, reached: from })
    }
}

/// The changes after a revision, in order.
pub struct Watch {
    log: Arc<Log>,
    head: watch::Receiver<Revision>,
    prefix: Bytes,
    reached: Revision,
}

impl Watch {
    /// The next changes, at least one; waits for them. [`Error::Compacted`] when this watch was too slow.
    pub async fn next(&mut self) -> Result<Vec<Event>, Error> {
        const CHUNK: usize = 256;
        loop {
            // Marked as seen before reading, so that what comes in between wakes the wait below.
            let head = *self.head.borrow_and_update();
            let (events, reached) = self.log.after(self.reached, &self.prefix, CHUNK)?;
            self.reached = reached;
            if !events.is_empty() {
                return Ok(events);
            }
            if reached >= head && self.head.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }
}
