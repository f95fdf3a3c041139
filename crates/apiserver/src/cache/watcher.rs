//! One client's watch: where it is in the log of its resource, and what of the log it wants.
//!
//! A watcher that is not polled costs nothing. When its client is so slow that the log has moved on, it ends with
//! [`TooOld`] and the client lists again.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use store::Revision;
use tokio::sync::watch;

use super::Caches;
use super::event::{Change, Event};
use super::feed::{Batch, Feed};
use super::object::Object;
use super::resource::{ResourceCache, TooOld};
use super::select::Selection;

/// What a watcher is to be told.
pub enum Told {
    /// An event of the log, the same for all who watch.
    Shared(Arc<Event>),
    /// The object has begun, or ceased, to match the selectors.
    Own(Change, Arc<Object>),
}

impl Told {
    pub fn change(&self) -> Change {
        match self {
            Self::Shared(event) => event.change,
            Self::Own(change, _) => *change,
        }
    }

    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Shared(event) => &event.object,
            Self::Own(_, object) => object,
        }
    }
}

pub struct Watcher {
    cache: Arc<ResourceCache>,
    caches: Arc<Caches>,
    head: watch::Receiver<Revision>,
    selection: Selection,
    reached: Revision,
    /// The cache's [`ResourceCache::resets`] when this watcher began.
    resets: u64,
    /// The cache's [`ResourceCache::ended`] then.
    ended: u64,
}

/// Events read from the log at a time, so that a long backlog does not hold the lock or memory.
const CHUNK: usize = 128;
/// Frames go out together up to about so many bytes.
pub const PIECE: usize = 32 << 10;

impl Watcher {
    /// Watches from after revision `from`.
    pub fn new(
        caches: Arc<Caches>,
        cache: Arc<ResourceCache>,
        selection: Selection,
        from: Revision,
    ) -> Result<Self, TooOld> {
        let (resets, ended) = (cache.resets(), cache.ended());
        cache.remembers(from)?;
        Ok(Self { head: cache.changes(), cache, caches, selection, reached: from, resets, ended })
    }

    /// A revision up to which this watcher has told everything. Moves on although its resource is quiet.
    pub fn progress(&mut self) -> Revision {
        // Read first: what is applied by now is in the log by now.
        let applied = self.caches.applied();
        if matches!(self.cache.events_after(self.reached, 1), Ok(events) if events.is_empty()) {
            self.reached = self.reached.max(applied);
        }
        self.reached
    }

    /// Waits until there is something to tell, and takes it from the `feed` of those who are told the same; `frame` makes
    /// what is not there yet. Nothing when nothing more will come.
    pub async fn next_batch<E: From<TooOld>>(
        &mut self,
        feed: &Arc<Feed>,
        frame: impl Fn(&Told) -> Result<Bytes, E>,
    ) -> Result<Option<Batch>, E> {
        loop {
            self.head.mark_unchanged();
            let first = self.cache.first_after(self.reached)?;
            self.check_resets()?;
            if let Some(first) = first {
                let batch = feed.batch(first, || self.make_batch(first, &frame))?;
                self.reached = batch.last;
                if batch.events > 0 {
                    return Ok(Some(batch));
                }
            } else if !self.has_more().await {
                return Ok(None);
            }
        }
    }

    /// What is to be told of the next events.
    fn make_batch<E: From<TooOld>>(
        &self,
        first: Revision,
        frame: impl Fn(&Told) -> Result<Bytes, E>,
    ) -> Result<Batch, E> {
        let (mut last, mut size) = (first, 0);
        let mut frames = Vec::new();
        for event in self.cache.events_after(self.reached, CHUNK)? {
            // A revision is told as a whole.
            if size >= PIECE && event.revision != last {
                break;
            }
            last = event.revision;
            if let Some(told) = self.tell(event) {
                let frame = frame(&told)?;
                size += frame.len();
                frames.push(frame);
            }
        }
        Ok(Batch { first, last, events: frames.len() as u64, frames: joined(frames, size) })
    }

    /// Everything was loaded again: what this watcher has told has nothing to do with what is there now.
    fn check_resets(&self) -> Result<(), TooOld> {
        match self.cache.resets() == self.resets {
            true => Ok(()),
            false => Err(TooOld { requested: self.reached, oldest: self.cache.revision() }),
        }
    }

    /// Waits for a change. No when there will be none: the resource is gone, or looks different; or the cache is gone
    /// with its server.
    async fn has_more(&mut self) -> bool {
        self.cache.ended() == self.ended && self.head.changed().await.is_ok()
    }

    /// Waits until there is something to tell. May return nothing when nothing that happened was of interest.
    pub async fn next(&mut self) -> Result<Vec<Told>, TooOld> {
        loop {
            self.head.mark_unchanged();
            let events = self.cache.events_after(self.reached, CHUNK)?;
            self.check_resets()?;
            if let Some(last) = events.last() {
                self.reached = last.revision;
                let told: Vec<Told> = events.into_iter().filter_map(|event| self.tell(event)).collect();
                if !told.is_empty() {
                    return Ok(told);
                }
                continue;
            }
            if !self.has_more().await {
                return Ok(Vec::new());
            }
        }
    }

    fn tell(&self, event: Arc<Event>) -> Option<Told> {
        if event.change == Change::Deleted {
            return self.selection.matches(&event.object).then_some(Told::Shared(event));
        }
        let now = self.selection.matches(&event.object);
        let before = event.previous.as_ref().is_some_and(|previous| self.selection.matches(previous));
        match (before, now) {
            (true, true) => Some(Told::Shared(event)),
            (false, true) if event.change == Change::Added => Some(Told::Shared(event)),
            (false, true) => Some(Told::Own(Change::Added, event.object.clone())),
            (true, false) => {
                let last = event.previous.as_ref()?.at(event.revision);
                Some(Told::Own(Change::Deleted, Arc::new(last)))
            }
            (false, false) => None,
        }
    }
}

/// One after the other; what is alone is not copied.
fn joined(mut frames: Vec<Bytes>, size: usize) -> Bytes {
    if let [alone] = frames.as_mut_slice() {
        return std::mem::take(alone);
    }
    let mut together = BytesMut::with_capacity(size);
    frames.into_iter().for_each(|frame| together.put(frame));
    together.freeze()
}
