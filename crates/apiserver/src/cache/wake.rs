//! Waking those who follow a resource, no more often than they can be served.
//!
//! A change wakes its followers at once. But a thousand watchers, each of them woken for each of a thousand changes a
//! second, would have the server do nothing else: with many followers, those of a short while are woken for together.
//! What a follower costs is what bounds the rate, so that a few are never delayed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use store::Revision;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Two or three times what it takes to wake a watcher and send it something (12 µs measured), as its client has work to
/// do as well: the fewer the pieces that many events come in, the less of it.
const PER_FOLLOWER: Duration = Duration::from_micros(40);
/// So few are woken at once, always.
const FEW: usize = 50;
/// However many they are.
const LONGEST: Duration = Duration::from_millis(40);

#[derive(Clone)]
pub struct Wake(Arc<Inner>);

struct Inner {
    head: watch::Sender<Revision>,
    pace: Mutex<Pace>,
    runtime: Handle,
}

struct Pace {
    /// Not before this.
    next: Instant,
    /// Somebody will wake them then.
    scheduled: bool,
    /// Of the newest change.
    revision: Revision,
}

impl Wake {
    /// For a cache that is filled within `runtime`.
    pub fn new(revision: Revision, runtime: Handle) -> Self {
        let pace = Pace { next: Instant::now(), scheduled: false, revision };
        Self(Arc::new(Inner { head: watch::Sender::new(revision), pace: Mutex::new(pace), runtime }))
    }

    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.0.head.subscribe()
    }

    /// There is something new.
    pub fn changed(&self, revision: Revision) {
        let followers = self.0.head.receiver_count();
        let mut pace = self.0.pace.lock();
        pace.revision = revision;
        if pace.scheduled {
            return;
        }
        let now = Instant::now();
        if followers > FEW && now < pace.next {
            pace.scheduled = true;
            let (later, at) = (self.0.clone(), pace.next);
            drop(pace);
            self.0.runtime.spawn(async move {
                tokio::time::sleep_until(at.into()).await;
                later.wake();
            });
            return;
        }
        drop(pace);
        self.0.wake();
    }
}

impl Inner {
    fn wake(&self) {
        let followers = u32::try_from(self.head.receiver_count()).unwrap_or(u32::MAX);
        let mut pace = self.pace.lock();
        pace.scheduled = false;
        pace.next = Instant::now() + PER_FOLLOWER.saturating_mul(followers).min(LONGEST);
        let revision = pace.revision;
        drop(pace);
        self.head.send_replace(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_are_woken_together_and_for_the_last() {
        let wake = Wake::new(0, Handle::current());
        let mut followers: Vec<_> = (0..FEW + 1).map(|_| wake.subscribe()).collect();
        wake.changed(1);
        assert_eq!(*followers[0].borrow_and_update(), 1);
        for revision in 2..100 {
            wake.changed(revision);
        }
        for follower in &mut followers {
            follower.wait_for(|revision| *revision == 99).await.unwrap();
        }
    }
}
