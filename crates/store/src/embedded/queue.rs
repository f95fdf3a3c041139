//! Requests on their way to the writer.
//!
//! Writers that were answered together tend to come back together, but not at the same instant: whoever comes first
//! would have a commit of its own and make the others wait for the next. So after a shared commit the queue is given a
//! moment to fill up again. A lone writer never waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    /// The reader is woken when so many wait.
    wanted: usize,
    closed: bool,
}

/// The writing end; the queue closes when the last clone is gone.
pub(crate) struct Sender<T>(Arc<Closing<T>>);

struct Closing<T>(Arc<Queue<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Drop for Closing<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Sender<T> {
    /// The item comes back when there is no reader any more.
    pub fn send(&self, item: T) -> Result<(), T> {
        let queue = &self.0.0;
        let mut state = queue.state.lock();
        if state.closed {
            return Err(item);
        }
        state.waiting.push(item);
        if state.waiting.len() >= state.wanted {
            drop(state);
            queue.arrived.notify_one();
        }
        Ok(())
    }

    pub fn is_closed(&self) -> bool {
        self.0.0.state.lock().closed
    }
}

impl<T> Queue<T> {
    pub fn new() -> (Sender<T>, Arc<Self>) {
        let state = State { waiting: Vec::new(), wanted: 1, closed: false };
        let queue = Arc::new(Self { state: Mutex::new(state), arrived: Condvar::new() });
        (Sender(Arc::new(Closing(queue.clone()))), queue)
    }

    /// Moves what waits, at most `limit`, to `batch`: as soon as `wanted` wait, or at least one and `patience` has
    /// passed. `false` when there is nothing and will be nothing any more.
    pub fn take(&self, batch: &mut Vec<T>, wanted: usize, patience: Duration, limit: usize) -> bool {
        let mut state = self.state.lock();
        state.wanted = wanted.clamp(1, limit);
        if state.wanted > 1 {
            let end = Instant::now() + patience;
            while state.waiting.len() < state.wanted && !state.closed {
                if self.arrived.wait_until(&mut state, end).timed_out() {
                    break;
                }
            }
            state.wanted = 1;
        }
        while state.waiting.is_empty() && !state.closed {
            self.arrived.wait(&mut state);
        }
        let count = state.waiting.len().min(limit);
        batch.extend(state.waiting.drain(..count));
        !batch.is_empty()
    }

    /// No more is accepted; what waits is still taken.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_waits_and_ends() {
        let (sender, queue) = Queue::new();
        for item in 0..3 {
            assert_eq!(sender.send(item), Ok(()));
        }
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, 2, Duration::ZERO, 2));
        assert_eq!(batch, [0, 1]);
        let other = sender.clone();
        drop(sender);
        assert_eq!(other.send(3), Ok(()));
        drop(other);
        batch.clear();
        assert!(queue.take(&mut batch, 9, Duration::ZERO, 9));
        assert_eq!(batch, [2, 3]);
        batch.clear();
        assert!(!queue.take(&mut batch, 1, Duration::ZERO, 9));
    }

    #[test]
    fn closed_queues_give_back() {
        let (sender, queue) = Queue::new();
        queue.close();
        assert_eq!(sender.send(7), Err(7));
        assert!(sender.is_closed());
    }
}
