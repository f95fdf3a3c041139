//! What has happened, told to those who follow it: the log, the observers, and writers that wait for their own change.
//!
//! An observer joins while changes go on: what happens during its load is kept for it, and told once it has loaded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::log::Log;
use crate::{Entry, Event, Observer, Revision};

pub(crate) struct Feed {
    pub log: Arc<Log>,
    followers: Mutex<Vec<Follower>>,
    /// Up to here every observer has been told. The log is ahead of it while they are being told.
    told: AtomicU64,
    /// Who waits for a revision to be told.
    waiting: Mutex<BTreeMap<Revision, Vec<oneshot::Sender<()>>>>,
    next_id: AtomicU64,
}

struct Follower {
    id: u64,
    prefix: Bytes,
    stage: Stage,
}

enum Stage {
    /// Still loading; what has happened meanwhile.
    Loading(Vec<Event>),
    /// Changes were missed while loading: what was loaded is worth nothing.
    Missed,
    /// Knows everything up to the revision.
    Following(Box<dyn Observer>, Revision),
}

impl Follower {
    fn tell(&mut self, events: &[Event], revision: Revision) {
        let wanted = |event: &&Event| event.key.starts_with(&self.prefix);
        match &mut self.stage {
            Stage::Loading(missed) => missed.extend(events.iter().filter(wanted).cloned()),
            Stage::Missed => {}
            Stage::Following(observer, seen) => {
                if revision <= *seen {
                    return;
                }
                let first = events.partition_point(|event| event.revision <= *seen);
                let events = events.get(first..).unwrap_or_default();
                *seen = revision;
                if events.iter().all(|event| event.key.starts_with(&self.prefix)) {
                    observer.changed(events, revision);
                } else {
                    observer.changed(&events.iter().filter(wanted).cloned().collect::<Vec<_>>(), revision);
                }
            }
        }
    }
}

/// The place of an observer that is loading; given up when dropped.
pub(crate) struct Joining<'a> {
    feed: &'a Feed,
    id: u64,
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        let joined = |follower: &Follower| matches!(follower.stage, Stage::Following(..));
        self.feed.followers.lock().retain(|follower| follower.id != self.id || joined(follower));
    }
}

impl Joining<'_> {
    /// The observer has loaded the state at `seen`. Gives it back when it has to load again.
    pub fn join(self, observer: Box<dyn Observer>, seen: Revision) -> Result<(), Box<dyn Observer>> {
        let mut followers = self.feed.followers.lock();
        let Some(follower) = followers.iter_mut().find(|follower| follower.id == self.id) else {
            return Err(observer);
        };
        let Stage::Loading(missed) = std::mem::replace(&mut follower.stage, Stage::Missed) else {
            return Err(observer);
        };
        follower.stage = Stage::Following(observer, seen);
        let reached = missed.last().map_or(seen, |event| event.revision);
        follower.tell(&missed, reached);
        Ok(())
    }
}

impl Feed {
    pub fn new(revision: Revision, recent_events: usize) -> Self {
        Self {
            log: Arc::new(Log::new(revision, recent_events)),
            followers: Mutex::default(),
            told: AtomicU64::new(revision),
            waiting: Mutex::default(),
            next_id: AtomicU64::new(0),
        }
    }

    /// Tells everyone what has happened, up to `revision`.
    pub fn publish(&self, events: Vec<Event>, revision: Revision) {
        let mut followers = self.followers.lock();
        self.log.append(&events, revision);
        for follower in followers.iter_mut() {
            follower.tell(&events, revision);
        }
        self.told.store(revision, Ordering::SeqCst);
        drop(followers);
        self.wake(revision);
    }

    /// Changes have been missed: `entries` is everything, at `revision`.
    pub fn reload(&self, entries: &[Entry], revision: Revision) {
        let mut followers = self.followers.lock();
        self.log.reset(revision);
        for follower in followers.iter_mut() {
            match &mut follower.stage {
                Stage::Following(observer, seen) => {
                    observer.begin();
                    for entry in entries.iter().filter(|entry| entry.key.starts_with(&follower.prefix)) {
                        observer.found(entry.clone());
                    }
                    observer.loaded(revision);
                    *seen = revision;
                }
                stage => *stage = Stage::Missed,
            }
        }
        self.told.store(revision, Ordering::SeqCst);
        drop(followers);
        // Whoever waits for a revision that is no more must not wait for ever.
        self.wake(Revision::MAX);
    }

    /// Forgets the history up to `revision`.
    pub fn compact(&self, revision: Revision) {
        let mut followers = self.followers.lock();
        self.log.compact(revision);
        for follower in followers.iter_mut() {
            if let Stage::Following(observer, _) = &mut follower.stage {
                observer.compacted(revision);
            }
        }
    }

    fn wake(&self, revision: Revision) {
        let mut waiting = self.waiting.lock();
        while let Some(first) = waiting.first_entry().filter(|first| *first.key() <= revision) {
            for waiting in first.remove() {
                // Whoever waited may have given up.
                let _ = waiting.send(());
            }
        }
    }

    /// Resolves when everything up to `revision` has been told; at once where it has.
    pub async fn told(&self, revision: Revision) {
        if self.told.load(Ordering::SeqCst) >= revision {
            return;
        }
        let (sender, told) = oneshot::channel();
        self.waiting.lock().entry(revision).or_default().push(sender);
        // It may have been told before the line above.
        if self.told.load(Ordering::SeqCst) >= revision {
            return;
        }
        // The other end goes only with this feed.
        let _ = told.await;
    }

    /// From now on changes are kept for an observer that is about to load.
    pub fn joining(&self, prefix: &[u8]) -> Joining<'_> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let prefix = Bytes::copy_from_slice(prefix);
        self.followers.lock().push(Follower { id, prefix, stage: Stage::Loading(Vec::new()) });
        Joining { feed: self, id }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// While it is told of a revision, nobody may believe that it has been.
    struct Doubting {
        feed: Weak<Feed>,
        seen: Arc<AtomicU64>,
    }

    fn is_told(feed: &Feed, revision: Revision) -> bool {
        let told = std::pin::pin!(feed.told(revision));
        told.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    impl Observer for Doubting {
        fn begin(&mut self) {}

        fn found(&mut self, _: Entry) {}

        fn loaded(&mut self, _: Revision) {}

        fn changed(&mut self, _: &[Event], revision: Revision) {
            let feed = self.feed.upgrade().expect("whoever tells is there");
            assert_eq!(feed.log.revision(), revision);
            assert!(is_told(&feed, revision - 1) && !is_told(&feed, revision));
            self.seen.store(revision, Ordering::SeqCst);
        }

        fn compacted(&mut self, _: Revision) {}
    }

    #[test]
    fn what_is_told_has_reached_every_observer() {
        let feed = Arc::new(Feed::new(4, 16));
        let seen = Arc::new(AtomicU64::new(0));
        let observer = Doubting { feed: Arc::downgrade(&feed), seen: seen.clone() };
        assert!(feed.joining(b"").join(Box::new(observer), 4).is_ok());
        for revision in 5..8 {
            assert!(!is_told(&feed, revision));
            feed.publish(Vec::new(), revision);
            assert!(is_told(&feed, revision));
            assert_eq!(seen.load(Ordering::SeqCst), revision);
        }
        // What was set back is waited for anew.
        feed.reload(&[], 3);
        assert!(is_told(&feed, 3) && !is_told(&feed, 4));
    }
}
