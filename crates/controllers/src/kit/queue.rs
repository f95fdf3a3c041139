//! The work queue of one controller.
//!
//! A key that is due is handed to one worker; marked again while it is worked on, it comes back once more
//! afterwards. Failures come back with exponential delay. Nothing here ticks: an idle queue costs nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exposition::Histogram;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::key::Key;
use super::metrics::{BUCKETS, Told};

const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// [`Queue::add_lazily`] hands a key out at most once in this time, so that a burst of status changes of a
/// hundred pods becomes a few status updates of their owner.
const LAZY_INTERVAL: Duration = Duration::from_millis(40);

/// Clones share the queue.
#[derive(Clone, Default)]
pub struct Queue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// Due: in `ready`, or to be put there when its worker is done.
    dirty: HashMap<Key, Instant>,
    working: HashMap<Key, Instant>,
    delayed: BTreeSet<(Instant, Key)>,
    delayed_until: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
    last_done: HashMap<Key, Instant>,
    added: u64,
    retried: u64,
    waited: Histogram,
    worked: Histogram,
}

impl Queue {
    /// Marks a key as due now.
    pub fn add(&self, key: Key) {
        self.0.state.lock().add(key);
        self.0.wake.notify_one();
    }

    /// Marks a key as due now, or a little later if it was worked on a moment ago. For changes that do not call
    /// for an action at once, such as counters in a status.
    pub fn add_lazily(&self, key: Key) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        match state.last_done.get(&key) {
            Some(&done) if now < done + LAZY_INTERVAL => state.add_at(key, done + LAZY_INTERVAL),
            _ => state.add(key),
        }
        drop(state);
        self.0.wake.notify_one();
    }

    /// Marks a key as due after `delay`, unless it is due earlier anyway.
    pub fn add_after(&self, key: Key, delay: Duration) {
        let due = Instant::now() + delay;
        self.0.state.lock().add_at(key, due);
        self.0.wake.notify_one();
    }

    /// The next due key. The caller gives it back with [`Queue::done`].
    pub async fn next(&self) -> Key {
        loop {
            let due = {
                let mut state = self.0.state.lock();
                if let Some(key) = state.next(Instant::now()) {
                    return key;
                }
                state.delayed.first().map(|(due, _)| *due)
            };
            match due {
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.0.wake.notified() => {}
                },
                None => self.0.wake.notified().await,
            }
        }
    }

    /// What has gone through the queue so far, for metrics.
    pub fn told(&self) -> Told {
        let now = Instant::now();
        let state = self.0.state.lock();
        let running = || state.working.values().map(|since| now.duration_since(*since));
        Told {
            depth: state.ready.len(),
            added: state.added,
            retried: state.retried,
            waited: state.waited.clone(),
            worked: state.worked.clone(),
            unfinished: running().sum(),
            longest: running().max().unwrap_or_default(),
        }
    }

    /// The work on a key has succeeded.
    pub fn done(&self, key: &Key) {
        self.0.state.lock().done(key, Instant::now(), true);
        self.0.wake.notify_one();
    }

    /// The work on a key has failed: it comes back after a delay, which is returned.
    pub fn failed(&self, key: &Key) -> Duration {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        state.done(key, now, false);
        state.retried += 1;
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let delay = retry_delay(*failures);
        *failures = failures.saturating_add(1);
        state.add_at(key.clone(), now + delay);
        drop(state);
        self.0.wake.notify_one();
        delay
    }
}

fn retry_delay(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LAST_RETRY)
}

impl State {
    fn add(&mut self, key: Key) {
        if !self.dirty.contains_key(&key) {
            self.added += 1;
            self.dirty.insert(key.clone(), Instant::now());
            if !self.working.contains_key(&key) {
                self.ready.push_back(key);
            }
        }
    }

    fn add_at(&mut self, key: Key, due: Instant) {
        if let Some(&earlier) = self.delayed_until.get(&key) {
            if earlier <= due {
                return;
            }
            self.delayed.remove(&(earlier, key.clone()));
        }
        self.delayed_until.insert(key.clone(), due);
        self.delayed.insert((due, key));
    }

    fn next(&mut self, now: Instant) -> Option<Key> {
        while self.delayed.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.delayed_until.remove(&key);
                self.add(key);
            }
        }
        let key = self.ready.pop_front()?;
        if let Some(since) = self.dirty.remove(&key) {
            self.waited.observe(&BUCKETS, now.saturating_duration_since(since).as_secs_f64());
        }
        self.working.insert(key.clone(), now);
        Some(key)
    }

    fn done(&mut self, key: &Key, now: Instant, succeeded: bool) {
        if let Some(since) = self.working.remove(key) {
            self.worked.observe(&BUCKETS, now.saturating_duration_since(since).as_secs_f64());
        }
        if succeeded {
            self.failures.remove(key);
        }
        if self.dirty.contains_key(key) {
            self.ready.push_back(key.clone());
        }
        // Only the recent past matters to `add_lazily`.
        if self.last_done.len() > 256 {
            self.last_done.retain(|_, done| now < *done + LAZY_INTERVAL);
        }
        self.last_done.insert(key.clone(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    #[test]
    fn a_key_is_queued_once_and_worked_on_by_one() {
        let now = Instant::now();
        let mut state = State::default();
        state.add(key("a"));
        state.add(key("a"));
        assert_eq!(state.next(now), Some(key("a")));
        state.add(key("a"));
        state.add(key("a"));
        assert_eq!(state.next(now), None, "still being worked on");
        state.done(&key("a"), now, true);
        assert_eq!(state.next(now), Some(key("a")), "was marked meanwhile");
        state.done(&key("a"), now, true);
        assert_eq!(state.next(now), None);
    }

    #[test]
    fn the_earliest_delay_counts() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut state = State::default();
        state.add_at(key("a"), now + 5 * second);
        state.add_at(key("a"), now + 2 * second);
        state.add_at(key("a"), now + 9 * second);
        assert_eq!(state.delayed.len(), 1);
        assert_eq!(state.next(now + second), None);
        assert_eq!(state.next(now + 2 * second), Some(key("a")));
        assert!(state.delayed.is_empty() && state.delayed_until.is_empty());
    }

    #[test]
    fn retries_slow_down_to_a_limit() {
        let delays: Vec<_> = (0..4).map(|n| retry_delay(n).as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40]);
        assert_eq!(retry_delay(u32::MAX), LAST_RETRY);
    }

    #[tokio::test(start_paused = true)]
    async fn lazy_marks_of_a_burst_become_one() {
        let queue = Queue::default();
        queue.add_lazily(key("a"));
        let start = Instant::now();
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed(), Duration::ZERO, "the first one is not held up");
        queue.done(&key("a"));
        for _ in 0..10 {
            queue.add_lazily(key("a"));
        }
        assert_eq!(queue.next().await, key("a"));
        assert!(start.elapsed() >= LAZY_INTERVAL);
        queue.done(&key("a"));
        assert!(queue.0.state.lock().ready.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn success_resets_the_delay() {
        let queue = Queue::default();
        queue.add(key("a"));
        let first = queue.failed(&queue.next().await);
        let second = queue.failed(&queue.next().await);
        assert!(second > first);
        queue.done(&queue.next().await);
        queue.add(key("a"));
        assert_eq!(queue.failed(&queue.next().await), first);
    }
}
